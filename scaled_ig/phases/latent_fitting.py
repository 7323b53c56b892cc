"""Scenes learn the latents of a frozen autoencoder: what the first phases of both stages have in common."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from torch import Tensor

from scaled_ig.batch import ViewBatch
from scaled_ig.optim.schedules import Schedule
from scaled_ig.phases.base import LearningRates, Phase, RunSettings
from scaled_ig.phases.cached_latents import CachedLatents
from scaled_ig.phases.latent_cache import Precision
from scaled_ig.randomness import CounterNoise
from scaled_ig.ranges import Count, Weight, checked
from scaled_ig.scene_model import SceneModel


@checked
class LatentFitting(Phase):
    """L_latent on scenes: planes, bases and head learn the frozen autoencoder's latents, or pixels where there is none.

    Args:
        scene: The model; its autoencoder stays as it is.
        settings: Of the run.
        learning_rates: ``micro``, ``mixing``, ``bases`` and ``head`` count.
        schedule: Change of the rates over the phase; the papers' where it is None.
        rays_per_view: Latent pixels of a view in a step; all where it is None, as in the papers.
        opacity_weight: Of the squared error of opacity against the masks of views, beside that of one channel of
            their pixels, so that what is as white as the background does not end as fog; 0 without.
        cache: Precision that encoded views are kept in; half of it rounds latents by up to 5e-4.
        total_variation: Weight of the planes' total variation.
    """

    trains: ClassVar[tuple[str, ...]] = ("micro", "mixing", "bases", "head")
    papers_schedule: ClassVar[type[Schedule]]

    def __init__(
        self,
        scene: SceneModel,
        settings: RunSettings = RunSettings(),  # noqa: B008
        learning_rates: LearningRates = LearningRates(),  # noqa: B008
        schedule: Schedule | None = None,
        rays_per_view: Count | None = None,
        opacity_weight: Weight = 0.0,
        cache: Precision = "float32",
        total_variation: Weight = 0.0,
    ) -> None:
        super().__init__(scene, settings, learning_rates, schedule or self.papers_schedule())
        self.target, self.total_variation = CachedLatents(rays_per_view, cache, opacity_weight), total_variation

    @property
    def needs_images(self) -> bool:
        return not self.target.can_cache(self.scene)

    @property
    def needs_masks(self) -> bool:
        return self.target.needs_masks(self.scene)

    def on_train_start(self) -> None:
        super().on_train_start()
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if self.target.opacity_weight and not data.has_masks(self.stage) and self.trainer.is_global_zero:
            print(f"{self.name}: opacity_weight has no effect: no scene of stage {self.stage} has masks", flush=True)
        if not self.settings.shared_frozen:  # the background goes with an encoder that is frozen for good
            self.scene.measure_background()
        self.target.encode(self.scene, data, self.stage, Path(self.trainer.default_root_dir))

    def terms(self, batch: ViewBatch, noise: CounterNoise) -> dict[str, tuple[float, Tensor]]:
        terms = {"latent": (1.0, self.target.term(self.scene, batch, noise))}
        if self.total_variation:
            terms["total_variation"] = (self.total_variation, self.smoothness(batch))
        return terms
