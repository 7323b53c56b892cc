"""``scaled-ig presets``: the configurations that are shipped."""

from __future__ import annotations

from scaled_ig import presets as shipped


def presets() -> int:
    """Lists the configurations that are shipped, for scaled-ig fit --preset NAME.

    A preset is a file that --config takes as well. Several may be given, with files of your own among them: each is
    laid over those before it, and options of the command line over all.

    Examples:
        scaled-ig presets

    Returns:
        Exit code 0.
    """
    known = list(shipped.presets().values())
    parts = {
        "These are whole; stage1 and stage2 also need Stable Diffusion's autoencoder and a GPU:": [
            preset for preset in known if preset.is_whole
        ],
        "These change some keys of one before them, such as --preset fast --preset no_prior:": [
            preset for preset in known if not preset.is_whole and not preset.group
        ],
        "These are the value of one key, such as --preset fast --preset ddp4:": [
            preset for preset in known if preset.group
        ],
    }
    width = max(len(preset.name) for preset in known)
    for heading, those in parts.items():
        print(heading)
        for preset in those:
            print(f"  {preset.name:<{width}}  {preset.summary}")
        print()
    print(f"Their files are in {shipped.folder()}")
    print("next: scaled-ig fit --preset quickstart --data.path PACK --run_dir RUN")
    return 0
