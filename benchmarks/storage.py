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
    for version, encoding, size, psnr, difference in measure_encodings(run / "bank", 16, None):
        if encoding == "int8_difference":
            stored = float(size.replace(",", ""))
            rows[version] = {
                "work": f"a scene of {run.name}, {version}: int8 of its difference from the mean scene, compressed",
                "ratio": PAPERS_BYTES / stored,
                "bytes": stored,
                "check": f"{difference} dB at {psnr} dB",
                "passed": float(difference) >= -0.05 and stored <= most_bytes,
            }
    return rows
