"""G8: bytes of a stored scene, and what its decoded renderings lose by it: a finished run's bank and test views."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scaled_ig.runs.encodings import measure_encodings

PAPERS_BYTES = 480_000  # micro planes and mixing coefficients in float32


def measure(run: Path, most_bytes: int) -> dict[str, Any]:
    """A row for each version in the bank.

    Args:
        run: Folder of a finished run, whose pack is where it was.
        most_bytes: Goal for a scene.
    """
    rows = {}
    for cost in measure_encodings(run / "bank", 16, None):
        if cost.encoding == "int8_difference":
            rows[cost.version] = {
                "work": f"a scene of {run.name}, {cost.version}: int8 of differences from the mean scene, compressed",
                "ratio": PAPERS_BYTES / cost.bytes_per_scene,
                "bytes": cost.bytes_per_scene,
                "check": f"{cost.psnr_gain:+.4f} dB at {cost.psnr:.3f} dB",
                "passed": cost.psnr_gain >= -0.05 and cost.bytes_per_scene <= most_bytes,
            }
    return rows
