"""Meshes of scenes beside their renderings: python -m benchmarks.meshes RUN [--scenes 4] [--picture FILE.png].

Each scene becomes a GLB file, which the reader of packs and the ray caster show from viewpoints between those that gave
it its colours.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from benchmarks.contest import machine
from data_modules.raycast import RayCaster
from data_modules.sources.meshes import MeshSource
from scaled_ig.bank.scene_bank import SceneBank, spread
from scaled_ig.cameras import Cameras, focal_of, orbit
from scaled_ig.export.gltf import glb
from scaled_ig.export.surface import surface_of
from scaled_ig.files import write_whole
from scaled_ig.report import pictures

ELEVATION = 0.35  # radians


def seen_of_file(path: Path, cameras: Cameras, size: tuple[int, int]) -> tuple[pictures.Picture, NDArray[np.bool_]]:
    """Images [B, H, W, 3] of a GLB file in its place, as any reader of the format sees it, and where it is."""
    mesh, record = MeshSource(path).load(next(path.glob("*.glb")).stem)
    moved = record["normalization"]
    caster = RayCaster(replace(mesh, vertices=mesh.vertices / moved["scale"] + moved["center"]))
    views = [
        caster.render(pose.numpy(), lens.numpy(), size)
        for pose, lens in zip(cameras.camera_to_world, cameras.intrinsics, strict=True)
    ]
    return np.stack([image for image, _ in views]), np.stack([mask > 127 for _, mask in views])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="folder of a run or of its bank")
    parser.add_argument("--scenes", type=int, default=4, help="how many, spread over the newest version")
    parser.add_argument("--resolution", type=int, default=128, help="cells along the side of a scene")
    parser.add_argument("--picture", type=Path, help="PNG to draw: rendering, mesh, mesh without its colours")
    options = parser.parse_args()
    bank = SceneBank.open(options.run)
    rows = []
    print(f"{machine()}\n| scene | seconds | vertices | GLB, MB | PSNR to the renderings, dB | silhouettes, IoU |")
    for scene_id in spread(bank.newest(), options.scenes):
        scene = bank[scene_id]
        size = scene.model.image_size
        cameras = orbit(4, ELEVATION, azimuth_range_radians=(0.5, 0.5 + 2 * np.pi), focal=focal_of(size))
        begun = time.process_time()
        surface = surface_of(scene, options.resolution)
        seconds = time.process_time() - begun
        shown = scene.render(cameras, outputs=("image", "opacity"))
        images, opaque = pictures.to_pictures(shown["image"]), shown["opacity"][:, 0].numpy() > 0.5
        seen = []
        for colours in (surface.colours, 0.3 + 0.6 * surface.normals.clip(0) @ np.float32([[0.2], [0.3], [0.5]])):
            with TemporaryDirectory() as folder:
                content = glb(replace(surface, colours=np.broadcast_to(colours, surface.vertices.shape)), "scene", "")
                (Path(folder) / "scene.glb").write_bytes(content)
                seen.append(seen_of_file(Path(folder), cameras, size))
        (mesh, mask), (grey, _) = seen
        error = (mesh.astype(float) - images) ** 2
        psnr = -10 * np.log10(error.mean((1, 2, 3)) / 255**2).mean()
        overlap = (mask & opaque).sum() / (mask | opaque).sum()
        columns = f"{seconds:.1f} | {len(surface.vertices):,} | {len(content) / 1e6:.2f} | {psnr:.1f} | {overlap:.3f}"
        print(f"| {scene_id} | {columns} |", flush=True)
        rows += [images, mesh, grey]
    if options.picture:
        height, width = size
        crop = slice(height * 9 // 40, height * 31 // 40), slice(width // 8, width * 7 // 8)
        tiles = [
            pictures.enlarge(np.ascontiguousarray(tile[crop]), 2, smooth=False) for row in rows for tile in row[:3]
        ]
        write_whole(options.picture, pictures.encode(pictures.mosaic(tiles, 3)))


if __name__ == "__main__":
    main()
