"""What the papers say of rows of ours, for the tables that runs are put into.

Of "Scaled Inverse Graphics: Efficiently Learning Large Sets of 3D Scenes"; of "Exploring 3D-aware Latent Spaces for
Efficiently Learning Numerous Scenes" where a name says workshop. Tables by their numbers there; megabytes are what each
table calls so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from scaled_ig.metrics.accounting import MEBIBYTE, MEGABYTE

N1, N2 = 500, 1500


class Ablation(NamedTuple):
    """A row of Table 3: cars. Minutes are τ, megabytes μ."""

    psnr: float
    ssim: float
    minutes: float
    megabytes: float


TABLE_3 = {
    "Ours-Micro": Ablation(27.64, 0.9409, 3.21, 1.50),
    "Ours-Macro": Ablation(27.51, 0.9346, 1.79, 0.0008),
    "Ours-M=1": Ablation(27.69, 0.9416, 2.12, 0.48),
    "Ours-RGB": Ablation(27.71, 0.9418, 15.88, 0.48),
    "Tri-Planes (RGB)": Ablation(28.56, 0.9512, 16.02, 1.50),
    "Ours": Ablation(28.64, 0.9498, 2.23, 0.48),
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
        total = self.megabytes * 1000 * MEBIBYTE
        untrained = self.untrained * 2000 * MEBIBYTE
        return (total - untrained) / 3 + untrained if self.has_moments else total


TABLE_4 = {
    "Vanilla-NeRF": Total(318.40, 25.14, 40.16, True),
    "Instant-NGP": Total(5.50, 359.40, 37.71, True, 40.0),
    "TensoRF": Total(34.47, 397.78, 40.38, True),
    "K-Planes": Total(37.68, 801.48, 32.59, True),
    "Tri-Planes": Total(32.04, 3.00, 30.03),
    "Ours": Total(5.22, 1.08, 31.20),
}

PAPER_ROWS: dict[str, dict[str, float]] = {
    name: dict(zip(("PSNR, dB", "SSIM", "τ, min a scene", "μ, their MB"), row, strict=True))
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
