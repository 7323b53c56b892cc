"""One scene of a bank, in the hands of a user."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scaled_ig.bank.table import BankRecord
from scaled_ig.batch import to_unit_range
from scaled_ig.cameras import Cameras
from scaled_ig.rendering.renderer import Rendering
from scaled_ig.scene_model import SceneModel


@dataclass(frozen=True)
class BankScene:
    """One scene of a bank, ready to be rendered.

    Args:
        record: What the bank knows of it: ``id``, ``version``, ``bytes``, ``sha256``, ``source_sha256``.
        rows: Its own parameters by name, float32, and the bits of its visual hull, uint8, where it has one.
        model: The model of its version, which scenes of that version share: it holds one scene at a time.
    """

    record: BankRecord
    rows: dict[str, Tensor]
    model: SceneModel

    @torch.no_grad()
    def render(self, cameras: Cameras) -> Tensor:
        """Images [B, 3, H, W] in [0, 1] from any cameras."""
        return to_unit_range(self.model.render_image(cameras, self._enter(cameras)))

    @torch.no_grad()
    def render_latent(self, cameras: Cameras) -> Rendering:
        """Latent pixels, opacity and depth, before decoding."""
        return self.model.render(cameras, self._enter(cameras))

    def _enter(self, cameras: Cameras) -> Tensor:
        for name, table in self.model.representation.scene_tables().items():
            table.weight[0] = self.rows[name]
        return torch.zeros(len(cameras), dtype=torch.long)
