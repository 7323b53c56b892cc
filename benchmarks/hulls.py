"""What visual hulls keep and cost: python -m benchmarks.hulls --pack PACK [--run RUN].

Of the scenes of a pack with masks: the part of the cube, of the texels of 64² planes, and of the samples between the
first and the last cell of a ray that the hull holds; milliseconds to carve it, and to cut the rays of an image to it;
the time to mix Micro-Macro planes and their gradients over the texels that are read, in parts of that over all texels.
Of RUN, trained on scenes of the pack without hulls: the part of the weight along rays that lies outside of them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import torch

from data_modules.layout import PackIndex, read_scene, split_views
from scaled_ig.bank.scene_bank import BankScene, SceneBank
from scaled_ig.cameras import Cameras, orbit
from scaled_ig.rendering.compositing import interval_weights
from scaled_ig.rendering.sampling import InsideBall, stratified
from scaled_ig.representations import PlaneRepresentation
from scaled_ig.representations.mixture import mix
from scaled_ig.representations.occupancy import Hulls, carve, pack

AXES = PlaneRepresentation.AXES["xy-xz-yz"]


def training_silhouettes(index: PackIndex, scene: int) -> tuple[torch.Tensor, Cameras]:
    """Masks [V, H, W] uint8 of a scene's training views, and their cameras."""
    with index.shards[index.shard_of(scene)].open() as file:
        views = read_scene(file, index, scene)
    assert views.masks is not None
    train = split_views(len(views.images), index.split_rule)[0]
    poses, intrinsics = (torch.from_numpy(values[train]) for values in (views.camera_to_world, views.intrinsics))
    return torch.from_numpy(views.masks[train]), Cameras(poses, intrinsics)


def measure(masks: torch.Tensor, cameras: Cameras, resolution: int) -> tuple[Hulls, dict[str, float]]:
    """A hull, and what it keeps and costs."""
    begun = time.process_time()
    hull = carve(masks, cameras, resolution)
    carved = time.process_time()
    hulls, rays = Hulls(pack(hull)[None]), cameras[:1].rays(masks.shape[2]).flatten()
    slot = torch.zeros(len(rays.origins), dtype=torch.long)
    hulls.limits(slot, rays)  # compiles
    before = time.process_time()
    near, far = hulls.limits(slot, rays)
    cut = time.process_time()
    hit = far > near
    held = hulls.hold(slot[hit], rays[hit].at(stratified(near[hit], far[hit], 64)))
    texels = hulls.texels(64, 0.5, AXES)
    return hulls, {
        "cube, %": 100 * float(hull.float().mean()),
        "texels, %": 100 * float(texels.float().mean()),
        "samples, %": 100 * float(held.float().mean()),
        "carving, ms": 1e3 * (carved - begun),
        "rays of an image, ms": 1e3 * (cut - before),
        "mixing, %": 100 * mixing_time(texels) / mixing_time(torch.ones_like(texels)),
    }


def mixing_time(texels: torch.Tensor) -> float:
    """Median seconds to mix the planes of eight such scenes, and their gradients."""
    texels = texels.expand(8, -1, -1, -1)
    parts = [torch.randn(*texels.shape, 10), torch.randn(8, 10), torch.randn(10, *texels.shape[1:], 22)]
    parts, seconds = [part.requires_grad_() for part in parts], []
    gradient = torch.randn(*texels.shape, 32) * texels[..., None]
    for _ in range(9):
        begun = time.process_time()
        torch.autograd.grad(mix(*parts, texels), parts, gradient)
        seconds.append(time.process_time() - begun)
    return statistics.median(seconds)


@torch.no_grad()
def weight_outside(scene: BankScene, hulls: Hulls) -> float:
    """Part of the weight along rays of a scene that lies in cells outside its hull."""
    scene.render_latent(orbit(1))  # the model holds this scene from here on
    rays = orbit(4, 0.5).rays(64).flatten()
    near, far = InsideBall().limits(rays)
    rays, t = rays[far > near], stratified(near[far > near], far[far > near], 96)
    positions = rays.at(t).flatten(0, 1)[None]
    raw = scene.model.renderer.raw_densities(scene.model.representation, torch.tensor([0]), positions)
    weights, middle = interval_weights(raw.view_as(t), t), 0.5 * (t[:, 1:] + t[:, :-1])
    held = hulls.hold(torch.zeros(len(t), dtype=torch.long), rays.at(middle))
    return float((weights * ~held).sum() / weights.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pack", type=Path, default=Path("data/demo/pack"), help="scenes with masks")
    parser.add_argument("--run", type=Path, help="trained on some of them without hulls")
    options = parser.parse_args()
    torch.set_num_threads(1)
    index = PackIndex.open(options.pack)
    bank = SceneBank.open(options.run / "bank") if options.run else None
    outside = []
    for resolution in (32, 64, 128):
        rows = []
        for scene in range(index.num_scenes):
            hulls, row = measure(*training_silhouettes(index, scene), resolution)
            rows.append(row)
            if bank is not None and resolution == 64 and index.scene_ids[scene] in bank.ids:
                outside.append(100 * weight_outside(bank[index.scene_ids[scene]], hulls))
        said = ", ".join(
            f"{name} {statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
            for name in rows[0]
            for values in [[row[name] for row in rows]]
        )
        print(f"{resolution}³ cells: {said}", flush=True)
    if outside:
        print(f"weight outside the hulls: {statistics.mean(outside):.1f} %, at most {max(outside):.1f} %")


if __name__ == "__main__":
    main()
