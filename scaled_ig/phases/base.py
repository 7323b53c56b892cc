"""What all phases share: who trains, with which rates, on which rank, and how that is saved."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from scaled_ig.autoencoders import TinyAutoencoder
from scaled_ig.batch import ViewBatch
from scaled_ig.distributed.agreement import together
from scaled_ig.errors import NotFiniteError
from scaled_ig.finite import is_finite
from scaled_ig.optim import Clock, SceneAdam, coalesced
from scaled_ig.optim.schedules import PresentRates, Schedule
from scaled_ig.phases.checkpoint_files import refuse_misfit
from scaled_ig.phases.checkpoints import CheckpointRows
from scaled_ig.phases.hulls import carve_hulls
from scaled_ig.phases.losses import total_variation
from scaled_ig.phases.not_finite import explain_parts, name_scenes, parts_not_finite
from scaled_ig.randomness import CounterNoise
from scaled_ig.ranges import PartBelowAll, Range, Rate, checked
from scaled_ig.rendering.renderer import Jitter
from scaled_ig.representations import PlaneRepresentation
from scaled_ig.scene_model import SceneModel


@checked
@dataclass(frozen=True)
class LearningRates:
    """Adam's rate of each part; the papers' Tables 7 and 8.

    Args:
        micro: The scenes' own planes.
        mixing: The scenes' mixing coefficients W.
        bases: Base planes B.
        head: Field head α.
        encoder: Encoder φ.
        decoder: Decoder ψ.
        small_decoder: Its small imitation.

    A part whose rate is 0 is not trained: there is no cost of its gradients.
    """

    micro: Rate = 1e-2
    mixing: Rate = 1e-2
    bases: Rate = 1e-2
    head: Rate = 1e-2
    encoder: Rate = 1e-4
    decoder: Rate = 1e-4
    small_decoder: Rate = 3e-3


@checked
@dataclass(frozen=True)
class AdamSettings:
    """Adam as in the papers.

    Args:
        clock: ``exact_dense`` equals dense Adam over all scenes; ``per_scene`` gives each scene its own step count.
        beta1: Decay of the first moment.
        beta2: Decay of the second moment.
        eps: ε.
        scene_rate: Factor on the rates of the scenes' own parameters. Dense Adam coasts between the visits of a scene;
            a clock of its own needs about 6 times the papers' rates to go as far (method 5).
    """

    clock: Clock = "exact_dense"
    beta1: PartBelowAll = 0.9
    beta2: PartBelowAll = 0.999
    eps: Annotated[float, Range(1e-30, 1)] = 1e-8
    scene_rate: Annotated[float, Range(0, 1e6, without_low=True)] = 1.0


@dataclass(frozen=True)
class RunSettings:
    """What a run tells each of its phases.

    Args:
        adam: Optimiser settings.
        seed: Of the noise.
        shared_frozen: Train the scenes' own parameters alone.
    """

    adam: AdamSettings = AdamSettings()
    seed: int = 0
    shared_frozen: bool = False


def jitter(model: SceneModel, batch: ViewBatch, noise: CounterNoise, pixels: Tensor | None = None) -> Jitter:
    """Noise for the rays of a batch: all latent pixels, or ``pixels`` [B, R]."""
    if pixels is None:
        pixels = torch.arange(math.prod(model.latent_size), device=batch.scene_index.device)[None]
    return Jitter(noise, batch.ray_ids(pixels))


def _sum_gradients(state, bucket):  # DDP refuses annotations that are text
    """DDP's hook: the sum over ranks. Its average, scaled back, would round otherwise on every number of ranks."""
    summed = dist.all_reduce(bucket.buffer(), async_op=True)
    return summed.get_future().then(lambda future: future.value()[0])


class Phase(LightningModule, ABC):
    """One of the training phases over a shared :class:`SceneModel`.

    Args:
        scene: The model.
        settings: Of the whole run.
        learning_rates: Of every part that the phase trains.
        schedule: Their change over the phase.
    """

    name: ClassVar[str]
    number: ClassVar[int]  # place in the order of phases; part of the key of the noise
    stage: ClassVar[int]  # 1 or 2: whose scenes are trained
    trains: ClassVar[tuple[str, ...]]
    watches: ClassVar[str] = "psnr"  # metric by which a scene is learned or not

    def __init__(
        self, scene: SceneModel, settings: RunSettings, learning_rates: LearningRates, schedule: Schedule
    ) -> None:
        super().__init__()
        self.scene, self.settings = scene, settings
        self.learning_rates, self.schedule = learning_rates, schedule
        self.learned: Tensor | None = None  # [N] scenes that are left out of batches
        self._anchor: nn.Parameter | None = None
        self._unchecked: tuple[ViewBatch, CounterNoise, Tensor] | None = None  # whose loss is not looked at yet
        self.rows = CheckpointRows(scene)

    @property
    def needs_images(self) -> bool:
        """Whether training batches must carry pixels."""
        return True

    @property
    def needs_masks(self) -> bool:
        """Whether training batches must carry silhouettes."""
        return False

    @abstractmethod
    def terms(self, batch: ViewBatch, noise: CounterNoise) -> dict[str, tuple[float, Tensor]]:
        """Weight and unweighted value of each term of the loss, by name."""

    def training_step(self, batch: ViewBatch, batch_index: int) -> Tensor:
        noise = CounterNoise(self.settings.seed, self.number, self.global_step)
        unlearned = batch if self.learned is None else batch[~self.learned[batch.scene_index]]
        share = len(unlearned) / (batch.global_size or len(batch))
        if len(unlearned):
            self._catch_up(unlearned, noise)
            terms = self.terms(unlearned, noise)
            total = torch.stack([weight * value for weight, value in terms.values()]).sum()
        else:  # a step like any other, for other ranks may have views: its gradient is zero
            with torch.no_grad():
                terms = self.terms(batch, noise)
            total = torch.stack([0 * parameter.sum() for parameter in self._trained_shared()]).sum()
        values = {f"train/{name}": value.detach() for name, (_, value) in terms.items()} | {
            "train/total": total.detach()
        }
        means = self._over_ranks(values, share)
        self.log_dict(means, batch_size=len(batch))
        self._unchecked = unlearned if len(unlearned) else batch, noise, means["train/total"]
        return total * share if self._anchor is None else total * share + 0 * self._anchor

    def _over_ranks(self, values: dict[str, Tensor], share: float) -> dict[str, Tensor]:
        """Means over the global batch, of which every rank has a share."""
        if self.trainer.world_size == 1:
            return values
        stacked = torch.stack([value.float() for value in values.values()]) * share
        dist.all_reduce(stacked)
        return dict(zip(values, stacked, strict=True))

    def smoothness(self, batch: ViewBatch) -> Tensor:
        """Total variation of the planes of a batch's scenes (the authors' code; absent from the papers).

        Texels of mixtures that no sample within hulls reads count as 0.

        Raises:
            ValueError: The representation has no planes.
        """
        representation = self.scene.representation
        if not isinstance(representation, PlaneRepresentation):
            raise ValueError(
                f"total_variation is defined on planes, which {type(representation).__name__} does not have"
            )
        scenes, visits = batch.scene_index.unique(return_counts=True)
        return total_variation(representation.planes(scenes), visits / len(batch))

    def on_train_start(self) -> None:
        self._measure_range()
        representation = self.scene.representation
        if representation.hull is None:
            return
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        carve_hulls(representation.hull, data, self.stage, self.scene.autoencoder.downsampling)
        planes = representation.scene_tables().get("micro") if "micro" in self.trained else None
        texels = representation.texel_masks()
        if planes is not None and texels is not None:
            self.scene_adam().keep(planes.weight, texels)

    @torch.no_grad()
    def _measure_range(self) -> None:
        """Measure the latents of an autoencoder that came without their range, the same on all ranks."""
        autoencoder = self.scene.autoencoder
        if isinstance(autoencoder, TinyAutoencoder) and not autoencoder.measured:
            views = self.trainer.datamodule.some_training_views(512)  # type: ignore[attr-defined]
            autoencoder.measure_range(torch.cat([autoencoder.encode(batch.pixels.to(self.device)) for batch in views]))

    # -- who trains, where ------------------------------------------------------------------------------------------

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of the whole model by the name of their learning rate."""
        scene = self.scene
        tables = {name: [table.weight] for name, table in scene.representation.scene_tables().items()}
        shared = {name: [parameter] for name, parameter in scene.representation.shared_parameters().items()}
        if not scene.own_heads:
            shared["head"] = list(scene.renderer.head.parameters())
        return {
            **tables,
            **shared,
            "encoder": list(scene.autoencoder.encoder_parameters()),
            "decoder": list(scene.autoencoder.decoder_parameters()),
            "small_decoder": list(scene.autoencoder.small_decoder_parameters()),
        }

    @property
    def trained(self) -> tuple[str, ...]:
        """Parts of ``trains`` that have a rate; the scenes' own alone where the shared ones are frozen."""
        tables = self.scene.representation.scene_tables()
        parts = [name for name in self.trains if getattr(self.learning_rates, name)]
        return tuple(name for name in parts if name in tables or not self.settings.shared_frozen)

    def setup(self, stage: str) -> None:
        """Shard the scenes and freeze what this phase does not train, before DDP wraps the module."""
        self.scene.representation.shard(self.trainer.global_rank, self.trainer.world_size)
        tables = self.scene.representation.scene_tables()
        self._ddp_params_and_buffers_to_ignore = [f"scene.representation.{name}.weight" for name in tables]
        for name, parameters in self.parts().items():
            for parameter in parameters:
                parameter.requires_grad_(name in self.trained)
        if not self._trained_shared():  # DDP refuses to reduce nothing
            self._anchor = nn.Parameter(torch.zeros((), device=self.device))

    def on_fit_start(self) -> None:
        """Sum gradients over ranks: each computes its part of the global batch's mean, and a scene's own is whole."""
        model = self.trainer.strategy.model
        if isinstance(model, DistributedDataParallel):
            model.register_comm_hook(None, _sum_gradients)

    def _trained_shared(self) -> list[nn.Parameter]:
        """What DDP waits for."""
        tables, parts = self.scene.representation.scene_tables(), self.parts()
        shared = [
            parameter for name in parts if name in self.trained and name not in tables for parameter in parts[name]
        ]
        return shared if self._anchor is None else [self._anchor]

    def configure_optimizers(self):
        tables = self.scene.representation.scene_tables()
        groups = [
            {"name": name, "params": parameters, "lr": self._rate(name, name in tables), "rows": name in tables}
            for name, parameters in self.parts().items()
            if name in self.trained and parameters
        ]
        adam = self.settings.adam
        optimizer = SceneAdam(groups, adam.clock, (adam.beta1, adam.beta2), adam.eps)
        self.rows.load_moments(optimizer)
        steps_per_epoch = self.trainer.datamodule.steps_per_epoch()  # type: ignore[attr-defined]
        total = (
            self.trainer.max_steps if self.trainer.max_steps > 0 else (self.trainer.max_epochs or 1) * steps_per_epoch
        )
        scheduler = PresentRates(optimizer, lambda step: self.schedule.factor(step // steps_per_epoch, step / total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _rate(self, name: str, own: bool) -> float:
        return getattr(self.learning_rates, name) * (self.settings.adam.scene_rate if own else 1.0)

    def scene_adam(self) -> SceneAdam:
        """The optimiser, without Lightning's wrapper."""
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        inner = getattr(optimizer, "optimizer", optimizer)
        assert isinstance(inner, SceneAdam)
        return inner

    def _catch_up(self, batch: ViewBatch, noise: CounterNoise) -> None:
        """Bring the scenes of a batch up to date before they are read."""
        scenes = batch.scene_index.unique()
        for name, table in self.scene.representation.scene_tables().items():
            if name in self.trained:
                self.scene_adam().catch_up(table.weight, table.row_of(scenes))
        self.scene.refresh(scenes, noise)

    def on_train_epoch_end(self) -> None:
        self.scene_adam().flush()

    def on_train_end(self) -> None:
        self.finish()

    def finish(self) -> None:
        """What is left to do after the last step; still a part of training. Done twice it changes nothing.

        Hooks of callbacks come before those of the phase: a callback that looks at what was trained calls it.
        """
        self.scene_adam().flush()

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None) -> None:
        """Clip by the norm over all ranks: local norms would let the shared parts of the ranks drift apart."""
        if not gradient_clip_val:
            return
        own, shared, gradients = [torch.zeros((), device=self.device)], [torch.zeros((), device=self.device)], []
        for group in self.scene_adam().param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad = coalesced(parameter.grad) if group["rows"] else parameter.grad
                    values = parameter.grad.values() if group["rows"] else parameter.grad
                    gradients.append(values)
                    (own if group["rows"] else shared).append(values.square().sum())
        total = torch.stack(own).sum()
        if self.trainer.world_size > 1:
            dist.all_reduce(total)
        factor = (gradient_clip_val / ((total + torch.stack(shared).sum()).sqrt() + 1e-6)).clamp(max=1.0)
        for values in gradients:
            values.mul_(factor)

    # -- what is not finite ------------------------------------------------------------------------------------------

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Stop before a loss that is not finite is applied. Collective: the loss is that of all ranks.

        The optimiser waits for a GPU here in any case, to learn which rows have a gradient.

        Raises:
            NotFiniteError: The loss is not finite.
        """
        assert self._unchecked is not None
        batch, noise, loss = self._unchecked
        if is_finite(loss):
            return
        self.require_finite()  # which may be the reason
        together(lambda: self._refuse(self._losses_not_finite(batch, noise)))
        self._refuse(["the loss"])

    @torch.no_grad()
    def _losses_not_finite(self, batch: ViewBatch, noise: CounterNoise) -> list[str]:
        """Scenes of a batch whose own loss is not finite, with the views of it in the batch, in words."""
        views: dict[int, list[int]] = {}
        for scene in batch.scene_index.unique().tolist():
            part = batch[batch.scene_index == scene]
            with self.trainer.precision_plugin.forward_context():
                terms = self.terms(part, noise).values()
            if not all(is_finite(weight * value) for weight, value in terms):
                views[scene] = part.view_index.tolist()
        return [f"the loss of {name_scenes(views, self._scene_ids(), views)}"] if views else []

    def require_finite(self) -> None:
        """Refuse to go on, or to save, what is not finite. Collective.

        Raises:
            NotFiniteError: Parameters of scenes or shared ones, or moments of the optimiser, are not finite.
        """
        state = {
            "state_dict": self.state_dict(),
            "optimizer_states": [optimizer.state_dict() for optimizer in self.trainer.optimizers],
        }
        places = self.rows.places(state)
        together(lambda: self._refuse(parts_not_finite(state, places, self._scene_ids)))

    def _scene_ids(self) -> list[str]:
        return self.trainer.datamodule.scene_ids(self.stage)  # type: ignore[attr-defined]

    def _refuse(self, parts: list[str]) -> None:
        """Raise NotFiniteError where parts that are not finite are named."""
        if parts:
            folder = self._checkpoint_folder() if self.trainer.checkpoint_callback else None
            raise NotFiniteError(explain_parts(parts, self.name, self.global_step, self.stage, folder))

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.trainer.optimizers:
            self.scene_adam().flush()
        self.require_finite()
        checkpoint["scaled_ig"] = {
            "phase": self.name,
            "stage": self.stage,
            "num_scenes": self.scene.representation.num_scenes,
        }
        checkpoint["state_dict"].pop("_anchor", None)  # whoever goes on may be alone
        self.rows.save(checkpoint, self._checkpoint_folder())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self._anchor is not None:
            checkpoint["state_dict"]["_anchor"] = self._anchor.detach()
        parts, tables = self.parts(), self.scene.representation.scene_tables()
        trained = {name: len(parts[name]) for name in parts if name in self.trained and parts[name]}
        rows = {f"scene.representation.{name}.weight" for name in tables}
        refuse_misfit(str(self.trainer.ckpt_path), checkpoint, self.state_dict(), rows, trained)
        self.rows.load(checkpoint, self._checkpoint_folder())

    def _checkpoint_folder(self) -> Path:
        return Path(self.trainer.checkpoint_callback.dirpath)  # type: ignore[union-attr, arg-type]
