"""Frames per second of the viewer, from a camera to a JPEG: ``python -m benchmarks.viewer RUN ...``.

The camera goes round a scene; each frame is what a browser gets while it is moved. No network and no browser: what they
add does not keep the next frame waiting.
"""

import argparse
import time

import torch

from benchmarks.contest import machine
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.cameras import focal_of, orbit
from scaled_ig.report.pictures import encode
from scaled_ig.viewer.scenes import MODES, Look, Scenes

FRAMES = 20


def seconds_of(scenes: Scenes, look: Look, side: int) -> tuple[float, float]:
    """Wall and processor seconds of the median frame."""
    cameras = orbit(FRAMES, focal=focal_of((side, side)))
    walls, processors = [], []
    for view in range(FRAMES):
        wall, processor = time.perf_counter(), time.process_time()
        encode(scenes.draw(look, cameras[view : view + 1], (side, side)), "JPEG")
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    return sorted(walls)[FRAMES // 2], sorted(processors)[FRAMES // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--side", type=int, default=128)
    arguments = parser.parse_args()
    print(f"{machine()}, {torch.get_num_threads()} threads; {arguments.side}×{arguments.side} pixels")
    print("| run | show | frames/s | ms of wall time a frame | ms of processor time a frame |")
    print("|---|---|---|---|---|")
    for run in arguments.runs:
        bank = SceneBank.open(run)
        scenes = Scenes(bank)
        for mode in MODES:
            look = Look(bank.ids[-1], mode)
            seconds_of(scenes, look, arguments.side)
            wall, processor = seconds_of(scenes, look, arguments.side)
            print(f"| {run} | {mode} | {1 / wall:.0f} | {1e3 * wall:.1f} | {1e3 * processor:.1f} |", flush=True)


if __name__ == "__main__":
    main()
