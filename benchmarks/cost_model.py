"""What N scenes cost in time, memory, network and disk: python benchmarks/cost_model.py prints docs/scale.md's tables.

Pure functions of sizes and constants. Bytes follow from shapes; tests compare them with real models, records and
checkpoints. Constants that had to be measured stand here with where they come from; those of GPUs are predictions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

FLOAT = 4  # bytes
Phase = Literal["latent_supervision", "rgb_alignment"]


@dataclass(frozen=True)
class Sizes:
    """What a scene and its shared parts are made of.

    Args:
        name: Of the configuration.
        plane_resolution: K.
        micro_channels: F_mic.
        macro_channels: F_mac.
        num_bases: M.
        views: Of a scene, V.
        train_views: Views that are trained on, whose latents are cached.
        test_views: Views that are measured.
        resolution: Pixels of a view's side.
        latent: Channels and side of a latent image.
        encoder: Parameters of the encoder.
        decoder: Parameters of the decoder.
    """

    name: str
    plane_resolution: int
    micro_channels: int
    macro_channels: int
    num_bases: int
    views: int
    train_views: int
    test_views: int
    resolution: int
    latent: tuple[int, int]
    encoder: int
    decoder: int


PAPER = Sizes("paper", 64, 10, 22, 50, 160, 144, 16, 128, (4, 16), 34_163_664, 49_490_199)
QUICKSTART = Sizes("quickstart", 32, 10, 22, 10, 40, 34, 4, 128, (12, 32), 109_704, 109_731)


@dataclass(frozen=True)
class Plan:
    """A way to learn scenes.

    Args:
        name: What it is.
        source: Whether it was seen, or is predicted.
        t1: Seconds of stage 1, on as many GPUs as it was seen or predicted for.
        tau: GPU-seconds of a further scene.
        serial: Seconds of a further scene in which the first rank works and the others wait.
    """

    name: str
    source: str
    t1: float
    tau: float
    serial: float = 0.0


# -- bytes of a scene ------------------------------------------------------------------------------------------------


def plane_values(sizes: Sizes) -> int:
    """Values of a scene's micro planes, 3 K² F_mic."""
    return 3 * sizes.plane_resolution**2 * sizes.micro_channels


def row_bytes(sizes: Sizes) -> int:
    """Micro planes and mixing coefficients, float32."""
    return FLOAT * (plane_values(sizes) + sizes.num_bases)


def moment_bytes(sizes: Sizes) -> int:
    """Adam's two moments of them, and the step of the last visit in each of the two tables."""
    return 2 * row_bytes(sizes) + 2 * FLOAT


def latent_bytes(sizes: Sizes, value_bytes: int = FLOAT) -> int:
    """Latents of the training views; ``cache: float16`` has 2 bytes a value."""
    channels, side = sizes.latent
    return sizes.train_views * channels * side**2 * value_bytes


def view_bytes(sizes: Sizes) -> int:
    """All views, decoded to 8 bits."""
    return 3 * sizes.views * sizes.resolution**2


def camera_bytes(sizes: Sizes) -> int:
    """Pose, intrinsics, near and far of all views, float32."""
    return FLOAT * sizes.views * (16 + 4 + 2)


def record_bytes(sizes: Sizes, encoding: str) -> int:
    """A scene in the bank; ``int8_difference`` depends on the content, this is its size before compression."""
    value = {"float32": 4, "bfloat16": 2}.get(encoding, 1)
    scales = 0 if encoding in ("float32", "bfloat16") else 3 * sizes.micro_channels
    return FLOAT * (sizes.num_bases + scales) + plane_values(sizes) * value


def checkpoint_bytes(sizes: Sizes) -> int:
    """A scene's part of a checkpoint: planes, mixing, moments."""
    return row_bytes(sizes) + moment_bytes(sizes)


def device_bytes(sizes: Sizes, value_bytes: int = FLOAT) -> int:
    """What a scene of a wave takes on its GPU: training state and latents."""
    return checkpoint_bytes(sizes) + latent_bytes(sizes, value_bytes)


def wave_disk_bytes(sizes: Sizes, value_bytes: int = FLOAT) -> int:
    """What a scene of a wave takes in the run folder at most: latents, and two checkpoints of each of two phases."""
    return latent_bytes(sizes, value_bytes) + 4 * checkpoint_bytes(sizes)


# -- what scenes share -----------------------------------------------------------------------------------------------


def shared_bytes(sizes: Sizes) -> dict[str, int]:
    """Shared parts, float32."""
    features, channels = sizes.micro_channels + sizes.macro_channels, sizes.latent[0]
    bases = sizes.num_bases * 3 * sizes.plane_resolution**2 * sizes.macro_channels
    head = (features + 1) * 64 + (64 + 1) * (1 + channels)
    parts = {"bases": bases, "head": head, "encoder": sizes.encoder, "decoder": sizes.decoder}
    return {name: FLOAT * count for name, count in parts.items()}


def reduced_bytes(sizes: Sizes, phase: Phase, frozen: bool) -> int:
    """Gradients that ranks sum in a step; where shared parts are frozen, one number that keeps DDP content."""
    if frozen:
        return FLOAT
    shared = shared_bytes(sizes)
    return shared["bases"] + shared["head"] + (shared["decoder"] if phase == "rgb_alignment" else 0)


def dense_reduced_bytes(sizes: Sizes, num_scenes: int) -> int:
    """What plain DDP over one dense table of all scenes would sum in a step of latent supervision."""
    return reduced_bytes(sizes, "latent_supervision", False) + num_scenes * row_bytes(sizes)


def ring_bytes(reduced: int, ranks: int) -> float:
    """Bytes that a rank sends in a ring all-reduce."""
    return 2 * (ranks - 1) / ranks * reduced


# -- steps, waves, time ----------------------------------------------------------------------------------------------


def visits_per_scene(sizes: Sizes, epochs: int) -> int:
    """Views of a scene that a phase trains on."""
    return sizes.train_views * epochs


def steps(sizes: Sizes, num_scenes: int, epochs: int, batch_size: int) -> int:
    """Steps of a phase over so many scenes."""
    return math.ceil(visits_per_scene(sizes, epochs) * num_scenes / batch_size)


def scenes_per_gpu(sizes: Sizes, memory_bytes: float, reserve_bytes: float, value_bytes: int = FLOAT) -> int:
    """Scenes of a wave on each GPU, beside what a step needs."""
    return max(0, int((memory_bytes - reserve_bytes) // device_bytes(sizes, value_bytes)))


def seconds_per_scene(
    latent_ms: float, rgb_ms: float, steps: tuple[int, int], efficiency: float, once_ms: float = 0.0
) -> float:
    """τ in GPU-seconds.

    Args:
        latent_ms: A step of latent supervision of 32 views, at a GPU's peak rates.
        rgb_ms: A step of RGB alignment.
        steps: Of a scene in each of them, in batches of 32 views that are all its own.
        efficiency: Part of the peak that is reached.
        once_ms: Encoding the training views once, and measuring the test views after each phase.
    """
    return (latent_ms * steps[0] + rgb_ms * steps[1] + once_ms) / 1000 / efficiency


def total_seconds(plan: Plan, num_scenes: int, gpus: int) -> float:
    """t(N) = t1 + (N − N1)·(τ / G + h): stage 1, scenes at τ GPU-seconds each, and h seconds each of the first rank."""
    return plan.t1 + max(0, num_scenes - N1) * (plan.tau / gpus + plan.serial)


# -- constants -------------------------------------------------------------------------------------------------------

N1 = 500
EPOCHS: dict[Phase, int] = {"latent_supervision": 30, "rgb_alignment": 50}
PAPER_STEPS, SHORT_STEPS = (135, 225), (27, 27)  # of 32 views a scene: 30 + 50 epochs, 6 + 6 epochs
NEAREST_MS, VIEWS_PER_SECOND = 1.9, 9852  # measured: cost_model_measure.py, benchmarks/data.py
SERIAL = NEAREST_MS / 1000 + 2 * PAPER.test_views / VIEWS_PER_SECOND  # the first rank looks up nearest training views
TF32, BF16 = 55.0, 28.0  # milliseconds at peak to encode 144 views and to measure 16 twice, H200: predicted
PLANS = (
    Plan("papers' code on L4", "papers' report", 31.2 * 3600, 4 * 2.23 * 60),
    Plan("A: `stage2.yaml`", "predicted", 6.4 * 3600, seconds_per_scene(2.1, 40, PAPER_STEPS, 0.5, TF32), SERIAL),
    Plan("B", "predicted", 3.0 * 3600, seconds_per_scene(0.74, 13.3, PAPER_STEPS, 0.5, BF16), SERIAL),
    Plan("C", "predicted", 3.0 * 3600, seconds_per_scene(0.74, 13.3, SHORT_STEPS, 0.5, BF16), SERIAL),
)
# What `make bench-scale` found, by the number of scenes: CPU milliseconds of a step, MiB; 0 where it did not fit.
STEPS: dict[str, tuple[tuple[float, float], ...]] = {
    "waves of 2,000": ((62.2, 612), (62.4, 936), (60.8, 1310), (61.3, 1358)),
    "rows of one table, as dense Adam": ((65.8, 620), (66.8, 946), (67.5, 4153), (0, 0)),
    "dense table, torch's Adam": ((65.4, 641), (82.8, 1272), (764, 5313), (0, 0)),
}
VIEW_ON_DISK = 515.3 * 1024 / 120  # bytes of a view of procedural cars in a pack, docs/data/README.md
DEMO_DIFFERENCE = 21_410 / 30_880  # int8_difference to int8, stage 2 of the demo, docs/bank.md
RESERVE = 20e9  # activations of Stable Diffusion's decoder at 32 views: predicted

# What cost_model_measure.py found: bytes a scene; then CPU seconds and MiB by the number of scenes, 10⁴, 10⁵, …
HOST_BYTES = {"pack_json": 241.5, "scenes_json": 106.0, "metrics_json": 284.0, "metrics_csv": 131.0, "table": 248.5}
HOST: dict[str, tuple[float, ...]] = {
    "`pack.json` opened by every rank, s": (0.0355, 0.343, 3.35),
    "memory that it keeps, MiB": (10.9, 100.0, 617.0),
    "memory while it is read, MiB": (13.2, 100.0, 962.0),
    "stages dealt, s": (0.0079, 0.419, 4.18),
    "training views of all scenes listed, s": (0.0008, 0.0045, 0.0415),
    "`scenes.json` made and written, s": (0.0056, 0.0778, 0.974),
    "`metrics.json` and `.csv` read and written once, s": (0.133, 1.44, 16.1),
    "memory for that on the first rank, MiB": (22.2, 286.0, 3330.0),
    "a wave added to the bank's scene table, s": (0.014, 0.0935, 0.965),
    "all rows of the scene table read (`add`), s": (0.03, 0.573, 4.71),
}
RANK: dict[str, tuple[float, ...]] = {
    "views, their order, the first batch, s": (0.542, 4.85),
    "list of its latents made, s": (0.324, 3.43),
    "memory for that, MiB": (114.0, 1740.0),
    "rows of noise made, s": (4.84, 48.4),
    "records encoded twice as `int8`, s": (8.66, 86.6),
    "records encoded twice as `int8_difference`, s": (238.0, 2380.0),
}
WAVE: dict[str, tuple[float, ...]] = {
    "records of test views, on the ranks together, MiB": (68.1, 681.0),
    "nearest training views, the first rank alone, s": (51.3, 513.0),
}


def main() -> None:
    from cost_model_report import tables

    print("\n\n".join(tables().values()))


if __name__ == "__main__":
    main()
