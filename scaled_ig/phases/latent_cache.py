"""Latents of views, encoded once while the encoder is frozen (method 4), on disk beside the run and in memory.

One file a virtual shard of scenes, so that any number of ranks shares the work and finds each other's files.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from scaled_ig.bank.description import describe
from scaled_ig.batch import ViewBatch, ViewKey, view_ids
from scaled_ig.errors import UsageError
from scaled_ig.files import bytes_needed, replacing
from scaled_ig.scene_model import SceneModel

Precision = Literal["float32", "float16"]
DTYPES: dict[Precision, torch.dtype] = {"float32": torch.float32, "float16": torch.float16}


class LatentCache:
    """Normalised latents by (scene, view).

    Args:
        folder: Where its files are; made if it is not there.
        model: What encodes.
        precision: What latents are kept in.
        say: Called with a sentence on what was made, and why.
    """

    def __init__(
        self, folder: Path, model: SceneModel, precision: Precision = "float32", say: Callable[[str], None] = print
    ) -> None:
        self.folder, self.model, self.precision, self.say = folder, model, precision, say
        self._encoder = encoder_digest(model)
        self._keys = torch.empty(0, dtype=torch.long)
        self._latents = torch.empty(0)

    def fill(
        self,
        shards: dict[int, list[ViewKey]],
        digests: Sequence[str],
        read_views: Callable[[list[ViewKey]], Iterable[ViewBatch]],
    ) -> None:
        """Find or make the latents of shards of scenes.

        Args:
            shards: Views of each shard, by its number; of ascending scenes.
            digests: Digest of the content of every scene.
            read_views: Gives views, in order, with images.

        Raises:
            UsageError: A file cannot be written.
        """
        device, filled = self.model.background.device, 0
        shards = {shard: sorted(keys) for shard, keys in shards.items()}
        keys_of_all = [key for keys in shards.values() for key in keys]
        self._keys = torch.tensor([view_ids(*key) for key in keys_of_all], dtype=torch.long, device=device)
        assert bool((self._keys.diff() > 0).all()), "shards are blocks of scenes, in order"
        for shard, keys in shards.items():
            path, digest = self.folder / f"shard-{shard}.safetensors", self._digest(keys, digests)
            latents, fault = _find(path, digest)
            if latents is None:
                if fault:
                    self.say(f"{path} {fault}: encoding its views again")
                latents, error = self._encode(read_views(keys))
                if self.precision != "float32":
                    self.say(f"{path} in {self.precision}: {error}")
                _write(path, latents, digest)
            if not filled:  # one copy, filled shard by shard
                self._latents = _room_for(len(self), latents, device)
            self._latents[filled : filled + len(latents)] = latents
            filled += len(latents)

    def __len__(self) -> int:
        return len(self._keys)

    def __call__(self, batch: ViewBatch) -> Tensor:
        """Latents [B, C, h, w] of a batch, float32.

        Raises:
            KeyError: A view was not among those encoded.
        """
        ids = batch.view_ids
        rows = torch.searchsorted(self._keys, ids).clamp(max=len(self._keys) - 1)
        missing = self._keys[rows] != ids
        if missing.any():
            place = int(missing.nonzero()[0])
            raise KeyError((int(batch.scene_index[place]), int(batch.view_index[place])))
        latents = self._latents.index_select(0, rows.to(self._latents.device))
        return latents.to(rows.device).float()

    def _digest(self, keys: list[ViewKey], digests: Sequence[str]) -> str:
        """What the latents of these views depend on."""
        views = [(digests[scene], view) for scene, view in keys]
        settings = (self._encoder, self.precision, describe(self.model)["resolution"], views)
        return hashlib.sha256(json.dumps(settings).encode()).hexdigest()

    @torch.no_grad()
    def _encode(self, batches: Iterable[ViewBatch]) -> tuple[Tensor, str]:
        """Latents on the CPU, and what their precision costs."""
        parts, largest, squares = [], 0.0, 0.0
        for batch in batches:
            latents = self.model.encode(batch.to(self.model.background.device).pixels)
            parts.append(latents.to(DTYPES[self.precision]).cpu())
            difference = latents.cpu() - parts[-1].float()
            largest, squares = max(largest, float(difference.abs().max())), squares + float(difference.square().sum())
        latents = torch.cat(parts).contiguous()
        decibels = 10 * math.log10(4 * latents.numel() / squares) if squares else math.inf  # latents span [-1, 1]
        return latents, f"largest rounding error {largest:.1e}, {decibels:.0f} dB"


def _room_for(count: int, latents: Tensor, device: torch.device) -> Tensor:
    """Room for as many latents of this kind on the device, or beside it where they would take half of what is free."""
    needed = count * latents[0].numel() * latents.element_size()
    if device.type == "cuda" and 2 * needed > torch.cuda.mem_get_info(device)[0]:
        device = torch.device("cpu")
    return torch.empty(count, *latents.shape[1:], dtype=latents.dtype, device=device)


def encoder_digest(model: SceneModel) -> str:
    """SHA-256 of all that encoding depends on: the autoencoder's kind, settings, weights and normaliser."""
    autoencoder = model.autoencoder
    decoders = {id(p) for p in (*autoencoder.decoder_parameters(), *autoencoder.small_decoder_parameters())}
    digest = hashlib.sha256(json.dumps(describe(model)["autoencoder"], sort_keys=True).encode())
    for name, value in sorted(autoencoder.state_dict(keep_vars=True).items()):
        if id(value) not in decoders:
            digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            digest.update(_bytes(value))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _find(path: Path, expected_digest: str) -> tuple[Tensor | None, str]:
    """Latents of a file, or None and what is wrong with it; nothing is wrong where there is none."""
    if not path.is_file():
        return None, ""
    try:
        with safe_open(path, "pt") as file:
            made_of, _, digest = (file.metadata() or {}).get("stamp", "").partition(" ")
            if made_of != expected_digest:
                return None, "was made of another encoder, other views or settings"
            latents = file.get_tensor("latents")
    except (SafetensorError, OSError):
        return None, "is damaged"
    if hashlib.sha256(_bytes(latents)).hexdigest() != digest:
        return None, "is damaged"
    return latents, ""


def _write(path: Path, latents: Tensor, made_of: str) -> None:
    # One entry: the order of several in the file's head is random.
    stamp = {"stamp": f"{made_of} {hashlib.sha256(_bytes(latents)).hexdigest()}"}
    try:
        with replacing(path) as draft:
            save_file({"latents": latents}, draft, metadata=stamp)
    except (SafetensorError, OSError) as error:
        needed = bytes_needed(path, latents.numel() * latents.element_size())
        raise UsageError(
            f"{path} cannot be written ({error}; {needed}): free space, or give another --run_dir"
        ) from None
