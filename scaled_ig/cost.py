"""What scenes cost: bytes per scene and shared, itemised, and milliseconds per image (method 8)."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from scaled_ig.cameras import orbit
from scaled_ig.scene_model import SceneModel


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def bytes_per_scene(scene: SceneModel) -> dict[str, int]:
    """Bytes of a scene's own parameters, by part."""
    tables = scene.representation.scene_tables()
    return {name: _bytes([table.weight[:1]]) for name, table in tables.items()}


def shared_bytes(scene: SceneModel) -> dict[str, int]:
    """Bytes of what all scenes share, by part."""
    autoencoder = scene.autoencoder
    return {
        **{name: _bytes([parameter]) for name, parameter in scene.representation.shared_parameters().items()},
        "head": _bytes(scene.renderer.head.parameters()),
        "encoder": _bytes(autoencoder.encoder_parameters()),
        "decoder": _bytes(autoencoder.decoder_parameters()),
        "small_decoder": _bytes(autoencoder.small_decoder_parameters()),
        "buffers": _bytes([scene.background, *autoencoder.buffers()]),
    }


@torch.no_grad()
def milliseconds_per_image(scene: SceneModel, repeats: int = 9) -> dict[str, float]:
    """Median time to render one latent image and to decode it, warm, one image at a time, synchronised."""
    device = scene.background.device
    camera, table = orbit(1).to(device), next(iter(scene.representation.scene_tables().values()))
    owned = torch.tensor([table.owned.start], device=device)
    latent = scene.render_latent(camera, owned)
    return {
        "render": _median_milliseconds(lambda: scene.render_latent(camera, owned), repeats, device),
        "decode": _median_milliseconds(lambda: scene.decode(latent), repeats, device),
    }


def _median_milliseconds(work: Callable[[], object], repeats: int, device: torch.device) -> float:
    def synchronise() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    times = []
    for _ in range(repeats + 2):
        synchronise()
        start = time.perf_counter()
        work()
        synchronise()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[2:])


def describe_machine(device: torch.device) -> dict[str, str | int]:
    """Where figures were measured: processor or GPU, cores that torch uses, version of torch."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else model
    return {"device": str(device), "name": name, "threads": torch.get_num_threads(), "torch": torch.__version__}
