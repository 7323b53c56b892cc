"""A campaign of faults: what runs, banks, latents and packs do when processes die, disks fill and bits flip.

``python -m tests.faults`` (``make faults``) carries out all of it. The promises, and what the last one gave,
are in docs/reliability.md.
"""
