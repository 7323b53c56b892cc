"""Train a small diffusion model on the tri-planes of a bank, and draw scenes that nobody has modelled.

    python examples/diffusion.py runs/cars300

The bank has planes [3, F, K, K] of every scene and the one head that reads them all. The model learns the planes as
images, normalised by the statistics of the bank, and the head renders what it draws. docs/diffusion.md has the commands
that make the bank, and a picture of what comes out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DModel
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader
from tqdm import tqdm

import scaled_ig
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.errors import UsageError
from scaled_ig.representations import TriPlanes
from scaled_ig.scene_model import SceneModel

NOISE_LEVELS = 1000
SAMPLING_STEPS = 50
MEMORY = 200  # steps over which weights are averaged
LARGEST = 10.0  # standard deviations: where estimates of clean planes are cut
PICTURE = 128  # pixels along the side of a view
PATCH = 2  # texels along the side of what the network sees as one pixel: a quarter of the time


@dataclass(frozen=True)
class Normaliser:
    """Planes [N, 3, F, K, K] to images [N, 12 F, K/2, K/2], features of mean 0 and standard deviation 1, and back."""

    mean: Tensor
    sd: Tensor

    @classmethod
    def of(cls, bank: SceneBank) -> Normaliser:
        statistics = bank.statistics()
        return cls(statistics.mean[:, None, None], statistics.sd.clamp(min=1e-6)[:, None, None])

    def images(self, planes: Tensor) -> Tensor:
        return F.pixel_unshuffle(((planes - self.mean) / self.sd).flatten(1, 2), PATCH)

    def planes(self, images: Tensor) -> Tensor:
        return F.pixel_shuffle(images, PATCH).unflatten(1, (3, -1)) * self.sd + self.mean


def make_scheduler() -> DDIMScheduler:
    """Cosine noise; the network tells the clean planes, which are simpler than noise of as many numbers."""
    return DDIMScheduler(
        NOISE_LEVELS,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="sample",
        clip_sample_range=LARGEST,
        timestep_spacing="trailing",  # begins at pure noise
        rescale_betas_zero_snr=True,
    )


def make_network(channels: int, resolution: int, width: int) -> UNet2DModel:
    """A U-Net over all three planes at once; attention where it is smallest."""
    return UNet2DModel(
        sample_size=resolution,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=1,
        block_out_channels=(width, 2 * width, 2 * width),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        attention_head_dim=32,
    )


def moving_average(average: Tensor, current: Tensor, num_averaged: Tensor) -> Tensor:
    """Over the last tenth of the first steps, and over ``MEMORY`` steps later."""
    return torch.lerp(average, current, max(1 / MEMORY, 10 / (10 + int(num_averaged))))


def train(bank: SceneBank, normaliser: Normaliser, network: UNet2DModel, steps: int, batch_size: int) -> UNet2DModel:
    """Adam on the squared error of denoised planes. Gives the average of the weights on the way."""
    scenes = bank.dataset()
    loader = DataLoader(scenes, min(batch_size, len(scenes)), shuffle=True, drop_last=True)
    scheduler, optimizer = make_scheduler(), torch.optim.AdamW(network.parameters(), 3e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
    average = AveragedModel(network, avg_fn=moving_average)
    with tqdm(total=steps, desc="training", unit="step") as bar:
        while bar.n < steps:
            for batch in loader:
                clean = normaliser.images(batch["planes"])
                noise, level = torch.randn_like(clean), torch.randint(NOISE_LEVELS, (len(clean),))
                noisy = scheduler.add_noise(clean, noise, level)
                loss = F.mse_loss(network(noisy, level).sample, clean)
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                average.update_parameters(network)
                bar.update()
                bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)
                if bar.n == steps:
                    break
    return average.module.eval()


@torch.no_grad()
def draw(network: UNet2DModel, count: int) -> Tensor:
    """Images of new planes from pure noise."""
    config, scheduler = network.config, make_scheduler()
    images = torch.randn(count, config.in_channels, config.sample_size, config.sample_size)
    scheduler.set_timesteps(SAMPLING_STEPS)
    for level in tqdm(scheduler.timesteps, desc="drawing", unit="step"):
        images = scheduler.step(network(images, level).sample, level, images).prev_sample
    return images


@torch.no_grad()
def nearest(images: Tensor, known: Tensor, but_itself: bool = False) -> tuple[Tensor, Tensor]:
    """Root mean square distance [N] of each image to its nearest known one, and which [N] that is."""
    distances = torch.cdist(images.flatten(1), known.flatten(1)) / images[0].numel() ** 0.5
    if but_itself:
        distances.fill_diagonal_(torch.inf)
    return tuple(distances.min(1))


def with_planes(bank: SceneBank, planes: Tensor) -> SceneModel:
    """The bank's model with other scenes in it: planes [N, 3, F, K, K] that its head reads."""
    model = bank.load_version(bank[bank.newest()[-1]].record.version, [])
    scenes = TriPlanes(planes.shape[2], planes.shape[-1], model.representation.extent, model.representation.plane_axes)
    scenes.new_scenes(len(planes))
    scenes.micro.weight.data.copy_(planes.permute(0, 1, 3, 4, 2))
    model.representation = scenes
    return model.at(PICTURE).requires_grad_(False)


@torch.no_grad()
def views(model: SceneModel, cameras: scaled_ig.Cameras) -> Tensor:
    """Images [N, B, 3, H, W] in [0, 1] of each of the model's N scenes."""
    scenes = range(model.representation.num_scenes)
    return torch.stack([model.render_image(cameras, torch.full((len(cameras),), n)) / 2 + 0.5 for n in scenes])


def diffusion(
    bank: str,
    out: str = "runs/diffusion",
    steps: int = 1500,
    batch_size: int = 16,
    samples: int = 8,
    width: int = 64,
    seed: int = 0,
) -> None:
    """Train on a bank, draw scenes, and write samples.png, samples.safetensors and the network.

    Args:
        bank: Folder of a bank or a run.
        out: Folder to write into.
        steps: Of training.
        batch_size: Scenes in a step.
        samples: Scenes to draw.
        width: Channels of the first level of the network; the next have twice as many.
        seed: Of everything that is random.
    """
    torch.manual_seed(seed)
    scenes = scaled_ig.open(bank)
    normaliser = Normaliser.of(scenes)
    planes = scenes.planes()
    if planes.shape[-1] % 8:
        raise UsageError(
            f"{bank} has planes of {planes.shape[-1]} texels: the network halves them, give a multiple of 8"
        )
    known = normaliser.images(planes)
    network = train(scenes, normaliser, make_network(known.shape[1], known.shape[-1], width), steps, batch_size)
    drawn = draw(network, samples)

    distance, closest = nearest(drawn, known)
    apart = nearest(known, known, but_itself=True)[0].median()
    print(f"from a drawn scene to its nearest training scene: {distance.median():.3f}; among those: {apart:.3f}")

    folder = Path(out)
    network.save_pretrained(folder / "network")
    planes = normaliser.planes(drawn)
    save_file({"planes": planes.contiguous()}, folder / "samples.safetensors")
    cameras = scaled_ig.orbit(3)
    rows = [views(with_planes(scenes, shown), cameras) for shown in (planes, normaliser.planes(known[closest]))]
    # One column a sample: its views, and below them its nearest training scene from the first viewpoint.
    grid = torch.cat([*rows[0].unbind(1), rows[1][:, 0]], 2)
    picture = grid.permute(2, 0, 3, 1).flatten(1, 2).clamp(0, 1).mul(255).round().byte()
    Image.fromarray(picture.numpy()).save(folder / "samples.png")
    print(f"wrote {folder}/samples.png, samples.safetensors and network/")


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(diffusion)
