"""The tables of docs/scale.md, from benchmarks/cost_model.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import cost_model as model
from cost_model import HOST, PAPER, PLANS, QUICKSTART, RANK, WAVE, Phase, Sizes

SCENES = (10**4, 10**5, 10**6, 10**7)
GPUS = (1, 8, 64)
GPU_MEMORY = {"24 GB": 24e9, "80 GB": 80e9, "141 GB": 141e9}


def tables() -> dict[str, str]:
    """All of them, by name."""
    makers = (
        of_a_step,
        of_a_scene,
        of_what_is_shared,
        of_waves,
        of_plans,
        of_time,
        of_wire,
        of_disk,
        of_hosts,
        of_a_wave,
    )
    return {maker.__name__: maker() for maker in makers}


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def size(count: float) -> str:
    """Bytes to three digits, in powers of 1000."""
    power = min(5, max(0, math.floor(math.log10(max(count, 1)) / 3)))
    number = count / 1000**power
    return f"{number:,.0f} {UNIT[power]}" if number >= 99.95 else f"{number:.3g} {UNIT[power]}"


UNIT = ("B", "kB", "MB", "GB", "TB", "PB")


def duration(seconds: float) -> str:
    """Hours, days or years."""
    for unit, length in (("y", 365.25 * 86400), ("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length or unit == "min":
            return f"{float(f'{seconds / length:.2g}'):g} {unit}"
    raise AssertionError


def of_a_step() -> str:
    """What a step took."""
    rows = [
        [name, *(f"{step:.3g} ms, {resident:,.0f} MiB" if step else "not held" for step, resident in cells)]
        for name, cells in model.STEPS.items()
    ]
    return markdown(["CPU time of a step, resident memory", *(f"N = 10{_power(10**n)}" for n in range(2, 6))], rows)


def of_a_scene() -> str:
    """Bytes of one scene."""
    items: dict[str, Callable[[Sizes], int]] = {
        "micro planes and mixing, float32": model.row_bytes,
        "Adam's moments": model.moment_bytes,
        "latents of its training views, float32": model.latent_bytes,
        "the same, `cache: float16`": lambda sizes: model.latent_bytes(sizes, 2),
        "**on its GPU while it is trained**, float32 latents": model.device_bytes,
        "the same, float16 latents": lambda sizes: model.device_bytes(sizes, 2),
        "views in memory, 8 bits": model.view_bytes,
        "cameras in memory": model.camera_bytes,
        "pack on disk, at 4.4 kB a view": lambda sizes: round(model.VIEW_ON_DISK * sizes.views),
        "bank, `float32`": lambda sizes: model.record_bytes(sizes, "float32"),
        "bank, `bfloat16`": lambda sizes: model.record_bytes(sizes, "bfloat16"),
        "bank, `int8`": lambda sizes: model.record_bytes(sizes, "int8"),
        "its part of a checkpoint": model.checkpoint_bytes,
        "run folder while its wave is trained, at most": model.wave_disk_bytes,
    }
    rows = [[name, f"{own(PAPER):,}", f"{own(QUICKSTART):,}"] for name, own in items.items()]
    return markdown(["bytes a scene", "papers' size", "recipes/latent.yaml"], rows)


def of_what_is_shared() -> str:
    """Bytes that scenes share, and that ranks sum."""
    both = PAPER, QUICKSTART
    rows = [[name, *(f"{model.shared_bytes(sizes)[name]:,}" for sizes in both)] for name in model.shared_bytes(PAPER)]
    summed: tuple[tuple[str, Phase, bool], ...] = (
        ("summed in a step of latent supervision", "latent_supervision", False),
        ("summed in a step of RGB alignment", "rgb_alignment", False),
        ("summed in a step, shared parts frozen", "rgb_alignment", True),
    )
    for label, phase, frozen in summed:
        rows.append([label, *(f"{model.reduced_bytes(sizes, phase, frozen):,}" for sizes in both)])
    dense = (f"{model.dense_reduced_bytes(sizes, 10**5):,}" for sizes in both)
    rows.append(["plain DDP over a dense table of 10⁵ scenes", *dense])
    return markdown(["bytes", "papers' size", "recipes/latent.yaml"], rows)


def of_waves() -> str:
    """Scenes that fit."""
    rows = []
    for name, memory in GPU_MEMORY.items():
        single, half = (model.scenes_per_gpu(PAPER, memory, model.RESERVE, value) for value in (4, 2))
        node = 8 * half
        rows.append([
            name, f"{single:,}", f"{half:,}", f"{node:,}", size(node * model.checkpoint_bytes(PAPER)),
            size(node * model.view_bytes(PAPER)), size(node * model.wave_disk_bytes(PAPER, 2)),
        ])  # fmt: skip
    head = [
        "GPU",
        "scenes a GPU, float32 latents",
        "float16 latents",
        "a node of 8",
        "its host memory at a phase's end",
    ]
    return markdown([*head, "its views in memory", "its run folder, at most"], rows)


def of_plans() -> str:
    """What t(N) is made of."""
    rows = [
        [
            plan.name,
            plan.source,
            duration(plan.t1),
            f"{plan.tau:.3g} s",
            f"{1000 * plan.serial:.1f} ms" if plan.serial else "–",
        ]
        for plan in PLANS
    ]
    return markdown(["plan", "figures are", "t1", "τ, GPU-seconds a scene", "h, of the first rank"], rows)


def of_time() -> str:
    """t(N) on 1, 8 and 64 GPUs."""
    rows = []
    for plan in PLANS:
        times = [[duration(model.total_seconds(plan, count, gpus)) for gpus in GPUS] for count in SCENES]
        rows.append([plan.name, *map(" / ".join, times)])
    return markdown(["on 1 / 8 / 64 GPUs", *(f"N = 10{_power(n)}" for n in SCENES)], rows)


def of_wire() -> str:
    """What a rank of 8 sends while N scenes are learned."""
    rows = []
    for label, batch in (
        ("carried, batches of 256", 256),
        ("frozen, batches of 256, gradients alone", 256),
    ):
        frozen, cells = label.startswith("frozen"), []
        for count in SCENES:
            total = sum(
                model.steps(PAPER, count, epochs, batch) * model.reduced_bytes(PAPER, phase, frozen)
                for phase, epochs in model.EPOCHS.items()
            )
            cells.append(size(model.ring_bytes(total, 8)))
        rows.append([label, *cells])
    return markdown(["shared parts", *(f"N = 10{_power(n)}" for n in SCENES)], rows)


def of_disk() -> str:
    """What N scenes take on disk and in JSON."""
    items: dict[str, Callable[[int], float]] = {
        "views, decoded": lambda n: n * model.view_bytes(PAPER),
        "pack, at 4.4 kB a view": lambda n: n * model.VIEW_ON_DISK * PAPER.views,
        "latents of all, float16 (kept for a wave alone)": lambda n: n * model.latent_bytes(PAPER, 2),
        "bank, `float32`": lambda n: n * model.record_bytes(PAPER, "float32"),
        "bank, `int8`": lambda n: n * model.record_bytes(PAPER, "int8"),
        "bank, `int8_difference`, if it compresses as in the demo": lambda n: (
            n * model.DEMO_DIFFERENCE * model.record_bytes(PAPER, "int8")
        ),
        "training state of all at once (without waves)": lambda n: n * model.checkpoint_bytes(PAPER),
        "`pack.json`": lambda n: n * model.HOST_BYTES["pack_json"],
        "`scenes.json`": lambda n: n * model.HOST_BYTES["scenes_json"],
        "`metrics.json` and `metrics.csv`": lambda n: (
            n * (model.HOST_BYTES["metrics_json"] + model.HOST_BYTES["metrics_csv"])
        ),
        "bank's scene table": lambda n: n * model.HOST_BYTES["table"],
    }
    rows = [[name, *(size(own(n)) for n in SCENES)] for name, own in items.items()]
    rows.append(["files of a pack, 100 scenes each", *(f"{n // 100:,}" for n in SCENES)])
    return markdown(["on disk, papers' size", *(f"N = 10{_power(n)}" for n in SCENES)], rows)


def of_hosts() -> str:
    """What a host pays for N scenes; ten times more than was measured is an extrapolation."""
    rows = [
        [name, *map(unit, values), f"≈ {unit(10 * values[-1])}"]
        for name, (unit, values) in {name: (UNITS[name.rpartition(", ")[2]], own) for name, own in HOST.items()}.items()
    ]
    return markdown(["what", *(f"N = 10{_power(n)}" for n in SCENES)], rows)


def of_a_wave() -> str:
    """What a wave costs besides training: by a rank's own scenes, and by the scenes of all ranks."""
    rows = []
    for whose, items in (("of a rank", RANK), ("of all ranks", WAVE)):
        rows += [[whose, name, *map(UNITS[name.rpartition(", ")[2]], values)] for name, values in items.items()]
    return markdown(["scenes", "what", "10⁴", "10⁵"], rows)


UNITS: dict[str, Callable[[float], str]] = {
    "s": lambda value: f"{value:.2g} s" if value < 9.95 else f"{value:.0f} s",
    "MiB": lambda value: f"{value:,.0f} MiB",
}


def _power(count: int) -> str:
    return str(round(math.log10(count))).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
