"""The papers' own figures in one place, and their accounting: as they give it, and as it adds up.

Of "Scaled Inverse Graphics: Efficiently Learning Large Sets of 3D Scenes"; of "Exploring 3D-aware Latent Spaces for
Efficiently Learning Numerous Scenes" where a name says workshop. Tables by their numbers there; megabytes are what each
table calls so.
"""

from __future__ import annotations

from dataclasses import dataclass

from scaled_ig.metrics.accounting import MEBIBYTE, MEGABYTE, Growth, saved

Quality = dict[str, float | None]


def _quality(psnr: float, ssim: float | None = None, lpips: float | None = None) -> Quality:
    return {"psnr": psnr, "ssim": ssim, "lpips": lpips}


TABLE_1 = {
    "cars": {"Tri-Planes (RGB)": _quality(28.56, 0.9512, 0.0346), "Ours": _quality(28.64, 0.9498, 0.0367)},
    "faces": {"Tri-Planes (RGB)": _quality(36.44, 0.9791, 0.0127), "Ours": _quality(36.82, 0.9706, 0.0057)},
}
"""Never-seen views of 50 scenes, 10 of S1 and 40 of S2."""

TABLE_5 = {
    1: {"Tri-Planes (RGB)": _quality(28.49, 0.9539, 0.0291), "Ours": _quality(28.14, 0.9505, 0.0301)},
    2: {"Tri-Planes (RGB)": _quality(28.58, 0.9505, 0.0360), "Ours": _quality(28.77, 0.9496, 0.0383)},
}
"""Cars, by stage."""

TABLE_6 = {
    1: {"Tri-Planes (RGB)": _quality(36.82, 0.9807, 0.0122), "Ours": _quality(36.17, 0.9678, 0.0062)},
    2: {"Tri-Planes (RGB)": _quality(36.35, 0.9787, 0.0129), "Ours": _quality(36.99, 0.9712, 0.0056)},
}
"""Faces, by stage."""


@dataclass(frozen=True)
class Ablation:
    """A row of Table 3: cars. Minutes are τ, megabytes μ."""

    latent: bool
    micro: bool
    macro: bool
    psnr: float
    ssim: float
    minutes: float
    megabytes: float


TABLE_3 = {
    "Ours-Micro": Ablation(True, True, False, 27.64, 0.9409, 3.21, 1.50),
    "Ours-Macro": Ablation(True, False, True, 27.51, 0.9346, 1.79, 0.0008),
    "Ours-M=1": Ablation(True, True, True, 27.69, 0.9416, 2.12, 0.48),
    "Ours-RGB": Ablation(False, True, True, 27.71, 0.9418, 15.88, 0.48),
    "Tri-Planes (RGB)": Ablation(False, True, False, 28.56, 0.9512, 16.02, 1.50),
    "Ours": Ablation(True, True, True, 28.64, 0.9498, 2.23, 0.48),
}

WORKSHOP_TABLE_2 = {
    "Ours-Micro": (26.52, 26.95),
    "Ours-Macro": (25.67, 26.10),
    "Tri-Planes-Macro (RGB)": (27.84, 28.00),
    "Tri-Planes (RGB)": (28.24, 28.40),
    "Ours-No-Prior": (27.72, 28.13),
    "Ours": (28.05, 28.48),
}
"""PSNR of train and of exploit scenes: cars, 100 of them exploited, 200 views."""


@dataclass(frozen=True)
class PerScene:
    """A row of the workshop paper's Table 1; effective costs have stage 1 shared out (its equations 9 and 11)."""

    minutes: float
    megabytes: float
    render_ms: float
    decode_ms: float
    effective_minutes: float
    effective_megabytes: float


WORKSHOP_TABLE_1 = {
    "Tri-Planes (RGB)": PerScene(32, 1.5, 23.3, 0, 32, 1.5),
    "Ours": PerScene(2, 0.48, 1.3, 9.7, 4.5, 0.84),  # rendering and decoding are 11.0 ms together
}
WORKSHOP_STAGE_1_MINUTES, WORKSHOP_SCENES = 40 * 60, 1000

MILLISECONDS = {"Tri-Planes (RGB)": (23.30, 0.0), "Ours": (0.36, 9.71)}
"""Table 2: to render, to decode."""


@dataclass(frozen=True)
class Total:
    """A row of Table 4, the data of Fig. 1: 2000 scenes, 4 L4 GPUs. Thousands of minutes and of "MB".

    Args:
        minutes: Training time.
        megabytes: Memory footprint. Mebibytes, as its 3.00 of Tri-Planes shows.
        psnr: Of another mix of data than Table 1, dB.
        has_moments: Whether it is of whole checkpoints, Adam's two moments included.
        untrained: Mebibytes a scene without moments even then: Instant-NGP's occupancy grid.
    """

    minutes: float
    megabytes: float
    psnr: float
    has_moments: bool = False
    untrained: float = 0.0

    def weight_bytes(self) -> float:
        """Bytes of 2000 scenes, without moments."""
        given = self.megabytes * 1000 * MEBIBYTE
        untrained = self.untrained * N * MEBIBYTE
        return (given - untrained) / 3 + untrained if self.has_moments else given


TABLE_4 = {
    "Vanilla-NeRF": Total(318.40, 25.14, 40.16, True),
    "Instant-NGP": Total(5.50, 359.40, 37.71, True, 40.0),
    "TensoRF": Total(34.47, 397.78, 40.38, True),
    "K-Planes": Total(37.68, 801.48, 32.59, True),
    "Tri-Planes": Total(32.04, 3.00, 30.03),
    "Ours": Total(5.22, 1.08, 31.20),
}

N1, N2 = 500, 1500
N = N1 + N2
GPUS = 4
STAGE_1_HOURS, STAGE_1_MEGABYTES = 31.2, 361.0
"""t1 and m1 as § 4.1 gives them."""
TIME_SAVED, MEMORY_SAVED = 0.86, 0.68
"""Per scene, asymptotically; § 4.1."""

PAPER_ROWS: dict[str, dict[str, float]] = {
    name: {"PSNR, dB": row.psnr, "SSIM": row.ssim, "τ, min a scene": row.minutes, "μ, their MB": row.megabytes}
    for name, row in TABLE_3.items()
}
for _name, (_train, _exploit) in WORKSHOP_TABLE_2.items():
    PAPER_ROWS.setdefault(_name, {}).update({"PSNR S1, workshop": _train, "PSNR S2, workshop": _exploit})
for _name, _total in TABLE_4.items():
    PAPER_ROWS.setdefault({"Tri-Planes": "Tri-Planes (RGB), a head each"}.get(_name, _name), {}).update(
        {
            "min at N = 2,000": 1000 * _total.minutes,
            "MB of weights at N = 2,000": _total.weight_bytes() / MEGABYTE,
            "PSNR of other data, dB": _total.psnr,
        }
    )
"""What the papers say of a row of ours, by its title: Tables 3 and 4, the workshop paper's Table 2."""

MINUTES = Growth(60 * STAGE_1_HOURS, TABLE_3["Ours"].minutes, N1)
RGB_MINUTES = Growth(0, TABLE_3["Tri-Planes (RGB)"].minutes)
MEGABYTES = Growth(STAGE_1_MEGABYTES, TABLE_3["Ours"].megabytes, N1)
RGB_MEGABYTES = Growth(0, TABLE_3["Tri-Planes (RGB)"].megabytes)
"""Equations 10 to 13 with the papers' constants."""

# What their sizes add up to, float32. Stable Diffusion's autoencoder: its two 1×1 convolutions are with their halves.
ENCODER, DECODER = 4 * (34_163_592 + 72), 4 * (49_490_179 + 20)
F_MIC, F_MAC, M, K = 10, 22, 50, 64
_TEXELS = 4 * 3 * K * K
BASES = M * _TEXELS * F_MAC
HEAD, RGB_HEAD = (4 * ((F_MIC + F_MAC + 1) * 64 + 65 * (1 + channels)) for channels in (4, 3))
SCENE_BYTES = {"micro": _TEXELS * F_MIC, "mixing": 4 * M}
RGB_SCENE_BYTES = _TEXELS * (F_MIC + F_MAC)
STAGE_1_BYTES = {
    "encoder": ENCODER,
    "decoder": DECODER,
    "bases": BASES,
    "head": HEAD,
    **{f"{N1} × {name}": N1 * size for name, size in SCENE_BYTES.items()},
}
STAGE_2_VERSION = {"decoder": DECODER, "bases": BASES, "head": HEAD}
"""What stage 2 goes on training: stage 1's stays, for its scenes are rendered with it."""

BYTES = Growth(sum(STAGE_1_BYTES.values()), sum(SCENE_BYTES.values()), N1)
ALL_VERSIONS = Growth(BYTES.once + sum(STAGE_2_VERSION.values()), BYTES.each, N1)
RGB_BYTES = Growth(RGB_HEAD, RGB_SCENE_BYTES)


ACCOUNTING = ["", "papers", "from their constants", "as it adds up", "why"]
"""Columns of :func:`accounting`."""


def accounting() -> list[list[str]]:
    """Lines: what, as the papers give it, as their own constants give it, as it adds up, and why."""
    return _totals() + _others() + _per_scene()


def _totals() -> list[list[str]]:
    minutes, rgb_minutes = MINUTES.at(N) / 1000, RGB_MINUTES.at(N) / 1000
    ours, rgb = TABLE_4["Ours"], TABLE_4["Tri-Planes"]
    parts = " + ".join(f"{name} {size / MEGABYTE:,.2f}" for name, size in STAGE_1_BYTES.items())
    return [
        ["t(2000), ours, 10³ min", f"{ours.minutes:.2f}", f"{minutes:.2f}", f"{GPUS * minutes:.2f} GPU-min",
         f"{GPUS} GPUs; whether τ is wall time of all of them is not said"],
        ["t(2000), Tri-Planes, 10³ min", f"{rgb.minutes:.2f}", f"{rgb_minutes:.2f}",
         f"{GPUS * rgb_minutes:.2f} GPU-min", "likewise"],
        ["m1, MB", f"{STAGE_1_MEGABYTES:.0f}", "", f"{BYTES.once / MEGABYTE:.1f}", parts],
        ["m(2000), ours, 10³ MB", f"{ours.megabytes:.2f}", f"{MEGABYTES.at(N) / 1000:.2f}", _thousands(BYTES.at(N)),
         "with m1 as it adds up"],
        ["m(2000), ours, every version kept", "", "", _thousands(ALL_VERSIONS.at(N)),
         "stage 2 trains decoder, bases and head further; stage 1's scenes need theirs"],
        ["m(2000), Tri-Planes, 10³ MB", f"{rgb.megabytes:.2f}", f"{RGB_MEGABYTES.at(N) / 1000:.2f}",
         _thousands(RGB_BYTES.at(N)), "theirs are MiB"],
    ]  # fmt: skip


def _others() -> list[list[str]]:
    lines = []
    for name, total in TABLE_4.items():
        if total.has_moments:
            rest = f"; {total.untrained:.0f} MiB of occupancy a scene have none" if total.untrained else ""
            why = f"theirs are MiB with Adam's two moments{rest}"
            lines.append(
                [f"m(2000), {name}, 10³ MB", f"{total.megabytes:.2f}", "", _thousands(total.weight_bytes()), why]
            )
    return lines


def _per_scene() -> list[list[str]]:
    ours, rgb = BYTES.each, RGB_BYTES.each
    minutes, megabytes = saved(MINUTES.each, RGB_MINUTES.each), saved(MEGABYTES.each, RGB_MEGABYTES.each)
    all_minutes, all_bytes = saved(MINUTES.at(N), RGB_MINUTES.at(N)), saved(ALL_VERSIONS.at(N), RGB_BYTES.at(N))
    workshop = WORKSHOP_TABLE_1["Ours"]
    shared_out = (ENCODER + DECODER + BASES) / WORKSHOP_SCENES + ours
    return [
        ["μ, ours, MB", f"{MEGABYTES.each:.2f}", "", _both(ours), "theirs is KiB / 1000"],
        ["μ, Ours-Macro, MB", f"{TABLE_3['Ours-Macro'].megabytes:.4f}", "", f"{SCENE_BYTES['mixing'] / MEGABYTE:.4f}",
         f"{M} coefficients"],
        ["μ, Tri-Planes, MB", f"{RGB_MEGABYTES.each:.2f}", "", _both(rgb), "theirs is MiB"],
        ["time saved per scene", f"{TIME_SAVED:.0%}", f"{minutes:.0%}", "", f"{all_minutes:.0%} of 2000 scenes'"],
        ["memory saved per scene", f"{MEMORY_SAVED:.0%}", f"{megabytes:.0%}", f"{saved(ours, rgb):.0%}",
         f"{all_bytes:.0%} of 2000 scenes', every version kept"],
        ["workshop: effective minutes", f"{workshop.effective_minutes:.1f}",
         f"{WORKSHOP_STAGE_1_MINUTES / WORKSHOP_SCENES + workshop.minutes:.1f}", "", "its 2 is rounded"],
        ["workshop: effective MB", f"{workshop.effective_megabytes:.2f}", "", _both(shared_out), "theirs are MiB"],
    ]  # fmt: skip


def _thousands(size: float) -> str:
    return f"{size / MEGABYTE / 1000:,.2f}"


def _both(size: float) -> str:
    return f"{size / MEGABYTE:.3f} ({size / MEBIBYTE:.3f} MiB)"
