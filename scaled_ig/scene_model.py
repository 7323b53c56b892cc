"""The whole model: scenes, the renderer and the autoencoder whose latents they live in. Knows nothing of Lightning.

Letters: B views, R pixels of each, C channels, h rows and w columns of latents, H and W of images.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from scaled_ig.autoencoders import Autoencoder, DecoderChoice, IdentityAutoencoder
from scaled_ig.cameras import Cameras, Rays, rows_and_columns
from scaled_ig.errors import UsageError
from scaled_ig.randomness import CounterNoise
from scaled_ig.ranges import Seed, Width, checked
from scaled_ig.rendering.field_head import FieldHead
from scaled_ig.rendering.kernels import KernelChoice
from scaled_ig.rendering.renderer import Jitter, Opacity, Renderer, Rendering, TablePrecision
from scaled_ig.rendering.sampling import SamplingPlan
from scaled_ig.representations import SceneRepresentation
from scaled_ig.representations.occupancy import HULL_RESOLUTION
from scaled_ig.representations.scene_table import HullTable, SceneTable, twin


@checked
class SceneModel(nn.Module):
    """Scenes of one kind, rendered in latent space and decoded.

    Latents here are always normalised, [-1, 1]; images are [B, 3, H, W] in [-1, 1].

    Args:
        representation: The scenes' parameters.
        autoencoder: Images to latents and back.
        sampling: Where rays are sampled.
        kernel: Version of the inner loop: ``fast`` or ``reference``; ``auto`` takes the fast one where there is one.
        compile_autoencoder: Run the autoencoder's networks through torch.compile; a minute at the start.
        hidden_channels: Width of the field head.
        resolution: Pixels along each side of the images, or their rows and columns.
        seed: Seed of the field head's first weights.
        table_precision: What planes are rounded to before they are rendered; parameters stay float32.
        own_heads: Every scene has a field head of its own, so that scenes are independent (the papers' baselines);
            all start from the same weights.
    """

    background: Tensor

    def __init__(
        self,
        representation: SceneRepresentation,
        autoencoder: Autoencoder,
        sampling: SamplingPlan,
        kernel: KernelChoice = "auto",
        compile_autoencoder: bool = False,
        hidden_channels: Width = 64,
        resolution: Width | tuple[Width, Width] = 128,
        seed: Seed = 0,
        table_precision: TablePrecision = "float32",
        own_heads: bool = False,
    ) -> None:
        super().__init__()
        self.image_size = _image_size(resolution, autoencoder)
        self.representation, self.autoencoder = representation, autoencoder
        if compile_autoencoder:
            autoencoder.compile()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = FieldHead(representation.feature_channels, autoencoder.latent_channels, hidden_channels)
        if own_heads:
            head.requires_grad_(False)  # the rows start from it, and it stays
            representation.head = SceneTable(head.row.shape, std=0.0, mean=head.row)
            representation.head.new_scenes(representation.num_scenes, seed)
        if sampling.in_hulls:
            representation.hull = HullTable(HULL_RESOLUTION)
            representation.hull.new_scenes(representation.num_scenes, seed)
        self.renderer = Renderer(head, sampling, kernel, table_precision)
        self.register_buffer("background", torch.ones(autoencoder.latent_channels))

    @property
    def latent_size(self) -> tuple[int, int]:
        """Rows and columns of a latent image."""
        height, width = self.image_size
        return height // self.autoencoder.downsampling, width // self.autoencoder.downsampling

    @property
    def own_heads(self) -> bool:
        """Whether every scene has a field head of its own."""
        return self.representation.head is not None

    @property
    def is_rgb(self) -> bool:
        """Whether scenes are trained on pixels: there is no latent space."""
        return isinstance(self.autoencoder, IdentityAutoencoder)

    @property
    def samples_hulls(self) -> bool:
        """Whether rays are sampled inside the visual hulls of their scenes."""
        return self.representation.hull is not None

    def of_rows(self, rows: dict[str, Tensor]) -> SceneModel:
        """This model with other scenes: light, for all that scenes share is shared with it, and nothing is copied.

        Args:
            rows: [S, *row_shape] of each table of scenes.
        """
        other = twin(self)
        other.representation = self.representation.of_rows(rows)
        return other

    def at(self, resolution: int | tuple[int, int]) -> SceneModel:
        """This model, of images of another size; everything is shared with it.

        Args:
            resolution: Pixels along each side, or rows and columns.

        Raises:
            UsageError: The autoencoder has no such images.
        """
        other = twin(self)
        other.image_size = _image_size(resolution, self.autoencoder)
        return other

    def encode(self, images: Tensor) -> Tensor:
        """Normalised latents [B, C, h, w]; the normaliser runs in float32."""
        return self.autoencoder.normalise(self.autoencoder.encode(images).float())

    def decode(self, latents: Tensor, decoder: DecoderChoice = "full") -> Tensor:
        """Images, not clamped, of normalised latents."""
        if decoder == "small":
            return self.autoencoder.decode_small(latents)
        return self.autoencoder.decode(self.autoencoder.denormalise(latents)).float()

    @torch.no_grad()
    def measure_background(self) -> None:
        """Set the value behind everything to the encoding of a white image; to be repeated when the encoder changes."""
        white = torch.ones(1, 3, *self.image_size, device=self.background.device)
        self.background.copy_(self.encode(white)[0].mean((1, 2)))

    def render(
        self, cameras: Cameras, scene_index: Tensor, jitter: Jitter | None = None, pixels: Tensor | None = None
    ) -> Rendering:
        """Render latent pixels, all or some.

        Args:
            cameras: B cameras.
            scene_index: [B] long.
            jitter: See :meth:`Renderer.forward`.
            pixels: [B, R] long, which latent pixels; all where it is None.
        """
        with _float32(scene_index):
            rays = self._rays(cameras, pixels)
            return self.renderer(self.representation, scene_index, rays, self.background, jitter)

    def rendering_loss(
        self,
        cameras: Cameras,
        scene_index: Tensor,
        target: Tensor,
        jitter: Jitter | None = None,
        pixels: Tensor | None = None,
        opacity: Opacity | None = None,
    ) -> Tensor:
        """Mean squared error of latent pixels, all or some; cheaper than by way of :meth:`render`.

        Args:
            cameras: B cameras.
            scene_index: [B] long.
            target: [B, R, C] in [-1, 1].
            jitter: See :meth:`Renderer.forward`.
            pixels: [B, R] long, which latent pixels; all where it is None.
            opacity: What rays should end in, whose error is added.
        """
        with _float32(scene_index):
            rays = self._rays(cameras, pixels)
            scenes = self.representation, scene_index, rays, self.background
            return self.renderer.squared_error(*scenes, target, jitter, opacity)

    @torch.no_grad()
    def refresh(self, scene_index: Tensor, noise: CounterNoise) -> None:
        """See :meth:`SceneRepresentation.refresh`."""
        with _float32(scene_index):
            densities = partial(self.renderer.raw_densities, self.representation, scene_index)
            self.representation.refresh(scene_index, densities, noise)

    def _rays(self, cameras: Cameras, pixels: Tensor | None) -> Rays:
        size = self.latent_size
        return cameras.rays(size) if pixels is None else cameras.rays_at(pixels, size)

    def render_pixels(self, cameras: Cameras, scene_index: Tensor) -> Rendering:
        """As :meth:`render`, by a ray for each pixel of the image: opacity and depth as fine as images are."""
        with _float32(scene_index):
            rays = cameras.rays(self.image_size)
            return self.renderer(self.representation, scene_index, rays, self.background)

    def render_latent(self, cameras: Cameras, scene_index: Tensor, jitter: Jitter | None = None) -> Tensor:
        """Rendered latents z̃ [B, C, h, w]."""
        return to_image(self.render(cameras, scene_index, jitter).pixels, self.latent_size)

    def render_image(self, cameras: Cameras, scene_index: Tensor) -> Tensor:
        """Decoded renderings x̃ [B, 3, H, W], clamped to [-1, 1]."""
        return self.decode(self.render_latent(cameras, scene_index)).clamp(-1, 1)

    def shared_state(self) -> dict[str, Tensor]:
        """All that scenes share: autoencoder, head, bases, background."""
        scene_prefixes = [f"representation.{name}." for name in self.representation.scene_tables()]
        scene_prefixes += ["renderer.head."] if self.own_heads else []
        return {name: value for name, value in self.state_dict().items() if not name.startswith(tuple(scene_prefixes))}


def _image_size(resolution: int | tuple[int, int], autoencoder: Autoencoder) -> tuple[int, int]:
    """Rows and columns of images that an autoencoder has latents of."""
    size = rows_and_columns(resolution)
    if min(size) < 1:
        raise UsageError(f"resolution {resolution} must be positive, e.g. 128")
    if any(side % autoencoder.image_multiple for side in size):
        multiple = autoencoder.image_multiple
        nearest = " x ".join(str(max(multiple, round(side / multiple) * multiple)) for side in dict.fromkeys(size))
        raise UsageError(f"resolution {resolution} is no multiple of the autoencoder's {multiple}: give {nearest}")
    return size


def _float32(anything: Tensor) -> torch.autocast:
    """Rays, planes and compositing need float32, whatever the precision of training."""
    return torch.autocast(anything.device.type, enabled=False)


def to_image(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """[B, h · w, C] → [B, C, h, w] of images of h rows and w columns."""
    return pixels.transpose(1, 2).unflatten(2, size)
