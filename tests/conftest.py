"""Scenes of coloured balls in closed form, a small pack of them, and a run of five phases on that pack."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from data_modules.base import PhaseData
from data_modules.packing.pack import write_pack
from data_modules.raycast import draw_cameras
from data_modules.sources.base import PosedViews, SceneEntry, SceneSource
from scaled_ig.autoencoders import IdentityAutoencoder, SmallAutoencoder
from scaled_ig.cameras import Cameras, Rays
from scaled_ig.phases import Phase
from scaled_ig.rendering.sampling import InsideBall
from scaled_ig.representations import MicroMacro
from scaled_ig.representations.occupancy import HULL_RESOLUTION, pack
from scaled_ig.scene_model import SceneModel
from tests.warm import WarmProgram

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background; programs that tests start would too
    signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # a number that is chosen stays, in processes that tests start too

# Left behind by other launchers, these would turn a new Trainer into somebody's child.
LEAKS = ("LOCAL_RANK", "RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED")

LONGEST = ("test_campaign", "test_ranges", "test_two_hosts", "test_small_rooms", "test_scale")
"""Files whose slow tests take longest. They begin first, so that no core waits for another's last file."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What a worker takes next is in the order of collection, see --no-loadscope-reorder in the Makefile."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)


def see_balls(cameras: Cameras, resolution: int, centres, radii, colours, grid: int = 3) -> torch.Tensor:
    """Flat-coloured balls on white by the quadratic formula: images [B, 3, H, W] in [0, 1], grid² samples a pixel."""
    fine = colours_of_balls(cameras.rays(resolution * grid), centres, radii, colours)
    return torch.nn.functional.avg_pool2d(fine.transpose(1, 2).unflatten(2, (resolution * grid, -1)), grid)


def colours_of_balls(rays: Rays, centres, radii, colours) -> torch.Tensor:
    """What rays [B, R] see of flat-coloured balls on white, [B, R, 3]."""
    origin, direction = rays.origins[:, :, None], rays.directions[:, :, None]
    offset = origin - torch.as_tensor(centres, dtype=origin.dtype)
    along = (offset * direction).sum(-1)
    chord = along.square() - offset.square().sum(-1) + torch.as_tensor(radii, dtype=origin.dtype).square()
    depth = torch.where(chord > 0, -along - chord.clamp(min=0).sqrt(), torch.inf)
    palette = torch.cat([torch.as_tensor(colours, dtype=origin.dtype), torch.ones(1, 3, dtype=origin.dtype)])
    nearest = torch.where(depth.min(-1).values < torch.inf, depth.argmin(-1), len(palette) - 1)
    return palette[nearest]


class BallScenes(SceneSource):
    """Scene ``ball-k`` is three balls whose places and colours k decides; the first ``masked`` scenes have masks."""

    viewpoints = None

    def __init__(self, count: int, views: int, resolution: int, variants: int = 1, masked: int = 0) -> None:
        self.count, self.views, self.resolution, self.variants = count, views, resolution, variants
        self.masked = masked

    def scenes(self):
        return [SceneEntry(f"ball-{row}", "ball") for row in range(self.count)]

    def load(self, scene_id):
        row = int(scene_id.split("-")[1])
        generator = np.random.default_rng(row)
        poses, intrinsics = draw_cameras(self.views, 1.3, (-180, 180), (0, 85), generator)
        cameras = Cameras(torch.from_numpy(poses), torch.from_numpy(intrinsics))
        centres, colours = generator.uniform(-0.22, 0.22, (3, 3)), generator.uniform(0, 1, (3, 3))
        radii = [0.2, 0.15, 0.1]
        images = see_balls(cameras, self.resolution, centres, radii, colours)
        pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        masks = None
        if row < self.masked:
            black = see_balls(cameras, self.resolution, centres, radii, np.zeros((3, 3)))
            masks = ((1 - black[:, 0]) * 255).round().to(torch.uint8).numpy()
        record = {"shape": f"shape-{row // self.variants}", "license": "CC0-1.0"}
        return PosedViews(pixels, poses, intrinsics, masks=masks), record


def ball_hulls(count: int, resolution: int = HULL_RESOLUTION) -> torch.Tensor:
    """Hulls [count, G, G, G / 8] of balls of several sizes and places; of the last scene all cells are set."""
    generator = torch.Generator().manual_seed(0)
    place = (torch.arange(resolution) + 0.5) / resolution - 0.5
    cells = torch.stack(torch.meshgrid(place, place, place, indexing="ij"), -1)
    centres = 0.4 * torch.rand(count, 1, 1, 1, 3, generator=generator) - 0.2
    radii = 0.1 + 0.15 * torch.rand(count, 1, 1, 1, generator=generator)
    hulls = (cells - centres).norm(dim=-1) < radii
    hulls[-1] = True
    return pack(hulls)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of the extra data."""
    folder = Path(os.environ.get("SCALED_IG_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no extra data in {folder}: name its folder with SCALED_IG_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def tiny_pack(tmp_path_factory) -> Path:
    """Eight scenes of balls with ten views of 32 x 32 pixels, nine of them to train on."""
    folder = tmp_path_factory.mktemp("packs") / "tiny"
    write_pack(BallScenes(8, 10, 32), folder, render=None)
    return folder


@pytest.fixture
def tiny_scene():
    """Makes a small scene model for 32 x 32 images: SmallAutoencoder, or pixels themselves."""

    def make(num_scenes: int = 4, rgb: bool = False, **options) -> SceneModel:
        torch.manual_seed(0)
        autoencoder = (
            IdentityAutoencoder() if rgb else SmallAutoencoder(patch_size=4, latent_channels=5, width=16, blocks=1)
        )
        representation = MicroMacro(4, 6, num_bases=3, plane_resolution=8, extent=0.5)
        sampling = options.pop("sampling", None) or InsideBall(8)
        scene = SceneModel(representation, autoencoder, sampling, resolution=32, **options)
        scene.representation.new_scenes(num_scenes, seed=5)
        return scene

    return make


TINY_RUN = """
seed_everything: 3
adam: {eps: 0.01}  # so that runs can be compared: rounding.py
scene:
  representation:
    class_path: MicroMacro
    init_args: {micro_channels: 4, macro_channels: 6, num_bases: 3, plane_resolution: 8, extent: 0.5}
  autoencoder:
    class_path: SmallAutoencoder
    init_args: {patch_size: 4, latent_channels: 5, width: 16, blocks: 1}
  sampling: {class_path: InsideBall, init_args: {num_samples: 8}}
  resolution: 32
data:
  class_path: ShapeNetCars
  init_args: {stage1_scenes: 4, stage2_scenes: 4, batch_size: 4}
hand_over: {scene_mean: true}
checkpoint_every_n_steps: 2
lpips: "off"
trainer: {accelerator: cpu, devices: 1, enable_progress_bar: false}
phases:
  autoencoder: {module: AutoencoderTraining, max_steps: 4}
  warm_up: {module: WarmUp, max_steps: 12}
  joint: {module: Joint, max_steps: 12}
  latent_supervision: {module: LatentSupervision, max_steps: 12}
  rgb_alignment: {module: RgbAlignment, max_steps: 12}
"""


@pytest.fixture(scope="session")
def run_scaled_ig():
    """Runs the program, or a script in its place, in a process of its own: exit status and what it printed."""
    clean = {name: value for name, value in os.environ.items() if name not in LEAKS and "SLURM" not in name}
    clean |= {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", "CUDA_VISIBLE_DEVICES": ""}
    warm = WarmProgram(clean)

    def run(*arguments, program: Path | None = None, **environment) -> tuple[int, str]:
        words = [str(argument) for argument in arguments]
        if "PYTHONPATH" in environment and "PYTHONPATH" in clean:
            environment["PYTHONPATH"] += os.pathsep + clean["PYTHONPATH"]  # ranks that it starts are of this checkout
        if program is None:
            return warm(words, clean | environment, timeout=240)
        process = subprocess.Popen(
            [sys.executable, str(program), *words],
            env=clean | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=240)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        return process.returncode, output

    yield run
    warm.close()


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory, tiny_pack) -> Path:
    """A configuration of all phases but the distillation, on the tiny pack."""
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(TINY_RUN.replace("init_args: {stage1", f"init_args: {{path: {tiny_pack}, stage1"))
    return path


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory, run_scaled_ig, tiny_config) -> Path:
    """A finished run of these five phases by one process."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    status, output = run_scaled_ig("fit", "--config", tiny_config, "--run_dir", folder)
    assert status == 0, output[-3000:]
    return folder


def phase_data(phase: Phase, **options) -> PhaseData:
    """What a run tells its data module of a phase."""
    wanted = {"order": phase.number, "with_images": phase.needs_images, "with_masks": phase.needs_masks}
    return PhaseData(stage=phase.stage, **wanted, **options)
