"""``scaled-ig doctor``: what is on this machine, and what works here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from scaled_ig import __version__, presets

GIB = 1 << 30
LEAST_SHARED, LEAST_DISK = 1, 10
"""GiB of /dev/shm and of the disk below which is said what may fail."""


def doctor() -> int:
    """Says what is on this machine and what works here: for a first look, and to put into a report of a problem.

    Lines that begin with ! name something that is missing, and the way to have it. Nothing is fetched.

    Examples:
        scaled-ig doctor

    Returns:
        Exit code 0.
    """
    parts = {
        "program": _program(),
        "machine": _machine(),
        "devices": _devices(),
        "kernels": _kernels(),
        "weights": _weights(),
        "W&B": _wandb(),
        "extras": _extras(),
    }
    for title, lines in parts.items():
        for place, line in enumerate(lines):
            mark = "!" if line.startswith("!") else " "
            print(f"{title if not place else '':<9}{mark} {line.removeprefix('!')}", flush=True)
    print("next: scaled-ig demo; or, with meshes of your own: scaled-ig pack meshes MODELS --out PACK")
    return 0


def _program() -> Iterator[str]:
    from importlib import metadata

    yield f"scaled-ig {__version__}, {Path(__file__).parents[1]}"
    yield f"Python {sys.version.split()[0]}, {sys.executable}"
    yield ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "lightning", "numpy", "jsonargparse"))
    yield f"{len(presets.presets())} presets, {presets.folder()}"
    for name in ("scaled_ig", "data_modules"):
        if (Path(name) / "__init__.py").is_file() and not _is_ours(name):
            yield f"!the folder {name} here hides the package of that name from python -m and notebooks: rename it"


def _is_ours(name: str) -> bool:
    """Whether a folder of the working directory is that of the package itself, in a checkout."""
    return Path(name).resolve().parent == Path(__file__).resolve().parents[2]


def _machine() -> Iterator[str]:
    import os
    import platform
    import shutil

    from scaled_ig.distributed.cores import processor_name, usable_cores

    yield f"{processor_name()}, {usable_cores()} usable cores, {platform.platform(terse=True)}"
    if hasattr(os, "sysconf"):
        yield f"memory: {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / GIB:.1f} GiB"
    free = shutil.disk_usage(".").free / GIB
    yield f"{'!' * (free < LEAST_DISK)}disk of this folder: {free:.1f} GiB free"
    if Path("/dev/shm").is_dir():
        free = shutil.disk_usage("/dev/shm").free / GIB
        hint = "; loaders need more: docker --shm-size 8g, or --data.num_workers 0" if free < LEAST_SHARED else ""
        yield f"{'!' * bool(hint)}shared memory: {free:.1f} GiB free{hint}"


def _devices() -> Iterator[str]:
    import torch

    for number in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(number)
        kind = f"compute capability {card.major}.{card.minor}"
        yield f"GPU {number}: {card.name}, {card.total_memory / GIB:.1f} GiB, {kind}"
    if not torch.cuda.device_count():
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built without CUDA"
        yield f"no GPU that torch can use ({built}): everything runs on the processor"


def _kernels() -> Iterator[str]:
    import importlib.util

    import torch

    from scaled_ig import native

    compiler = native.compiler()
    if native.works():
        yield f"processor: compiled C, by {' '.join(compiler or [])}"
    else:
        yield "!processor: plain PyTorch, several times slower: install a C compiler, or pip install ziglang"
    if torch.cuda.is_available():
        has_triton = importlib.util.find_spec("triton") is not None
        yield "GPU: Triton" if has_triton else "!GPU: plain PyTorch, slower: pip install triton"


def _weights() -> Iterator[str]:
    import inspect
    import os

    import torch

    from scaled_ig.autoencoders import KLAutoencoder
    from scaled_ig.metrics.images import ALEXNET

    alexnet = Path(torch.hub.get_dir()) / "checkpoints" / ALEXNET
    if alexnet.is_file():
        yield f"LPIPS: {alexnet}"
    else:
        yield f"!LPIPS is not measured, since {alexnet} is missing: --lpips download fetches it"
    name = inspect.signature(KLAutoencoder).parameters["pretrained"].default
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    if any(cache.glob(f"models--{name.replace('/', '--')}/snapshots/*/vae")):
        yield f"Stable Diffusion's autoencoder: {cache}"
    else:
        yield f"!Stable Diffusion's autoencoder {name} is not here; stage1 and stage2 fetch it from the Hub"


def _wandb() -> Iterator[str]:
    import netrc
    import os

    try:
        has_key = bool(os.environ.get("WANDB_API_KEY")) or netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        has_key = False
    mode = os.environ.get("WANDB_MODE")
    if mode:
        yield f"WANDB_MODE is {mode}"
    elif has_key:
        yield "a key is here: runs with --trainer.logger RunLogger go online"
    else:
        yield "no key: runs with --trainer.logger RunLogger are written offline; wandb login stores one"


def _extras() -> Iterator[str]:
    """Extras of the package and whether what they name is installed."""
    from importlib import metadata

    from packaging.requirements import Requirement

    try:
        about = metadata.metadata("scaled-ig")
    except metadata.PackageNotFoundError:
        yield "not known: scaled-ig is not installed, it runs from a folder"
        return
    needs = [Requirement(line) for line in about.get_all("Requires-Dist") or []]
    installed = {str(found.metadata["Name"]).lower().replace("_", "-") for found in metadata.distributions()}
    for extra in about.get_all("Provides-Extra") or []:
        names = [need.name for need in needs if need.marker and need.marker.evaluate({"extra": extra})]
        missing = [name for name in names if name.lower().replace("_", "-") not in installed]
        if extra != "dev":
            way = f"!{extra}: {', '.join(missing)} missing; pip install 'scaled-ig[{extra}]'"
            yield way if missing else f"{extra}: installed"
