"""Checkpoints of the papers' own code, ``gvae_latest.pt``, written and read.

A dictionary of tensors: ``nerfs`` has ``local_planes`` [N, 3, F_mic, K, K], ``global_planes`` [M, 3, F_mac, K, K],
``coefs`` [N, M] and ``bias`` [N, 1, 1, 1, 1], which their training leaves at 0; ``renderer`` the MLP; ``vae`` the
AutoencoderKL, and nothing for RGB; ``global_nerfs`` the base planes again. What a model is beside its tensors stands in
their configuration. Letters: N scenes, M base planes, K texels along a plane, F_mic and F_mac features.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from scaled_ig.autoencoders import Autoencoder, IdentityAutoencoder, KLAutoencoder
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.documents import parse_json, read_file
from scaled_ig.errors import UsageError
from scaled_ig.export.contents import Contents
from scaled_ig.files import replacing, write_json
from scaled_ig.rendering.sampling import FullRay
from scaled_ig.representations import MicroMacro, TriPlanes
from scaled_ig.representations.base import PlaneRepresentation
from scaled_ig.scene_model import SceneModel

CHECKPOINT, SCENES_FILE = "gvae_latest.pt", "scenes.json"
HIDDEN = 64  # neurons, fixed in their code
BACKGROUND = [0.6176, 0.5711, 0.5046, 0.4422]
"""Of Stable Diffusion's latents, in [0, 1], fixed in their code."""
_LAYERS = {"decoder.net.0": "hidden", "decoder.net.2": "out"}
_STABLE_DIFFUSION: dict[str, Any] = {
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 512,
    "scaling_factor": 0.18215,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
"""Configuration of the autoencoder of version 1.5, which the papers use."""


def write_official(bank: SceneBank, ids: list[str], out: Path, progress: Callable[[int], object]) -> str:
    """Write a folder with ``gvae_latest.pt``, and ``scenes.json``: which scene is which row, and what the model is.

    All scenes are in memory together.

    Raises:
        UsageError: The layout has no place for something, or their code would read it as something else.
    """
    records = [bank.record(name) for name in ids]
    model = bank[ids[0]].model
    _require_place(model, records[0].version)
    tables: dict[str, list[Tensor]] = {"micro": [], "mixing": []}
    for name in ids:
        for table, row in bank[name].rows.items():
            tables[table].append(row)
        progress(1)
    representation = cast(PlaneRepresentation, model.representation)
    k = representation.plane_resolution
    micro = torch.stack(tables["micro"]) if tables["micro"] else torch.zeros(len(ids), 3, k, k, 0)
    nerfs = {"local_planes": micro.movedim(-1, 2).contiguous()}
    checkpoint: dict[str, Any] = {"vae": {}, "nerfs": nerfs}
    if isinstance(representation, MicroMacro) and representation.mixing is not None:
        nerfs["global_planes"] = representation.bases.detach().movedim(-1, 2).contiguous()
        nerfs |= {"coefs": torch.stack(tables["mixing"]), "bias": torch.zeros(len(ids), 1, 1, 1, 1)}
        checkpoint["global_nerfs"] = nerfs["global_planes"]
    if isinstance(model.autoencoder, KLAutoencoder):
        checkpoint["vae"] = {name: value.clone() for name, value in model.autoencoder.network.state_dict().items()}
    head = model.renderer.head.state_dict()
    names = [(theirs, ours, kind) for theirs, ours in _LAYERS.items() for kind in ("weight", "bias")]
    checkpoint["renderer"] = {f"{theirs}.{kind}": head[f"{ours}.{kind}"].clone() for theirs, ours, kind in names}
    with replacing(out / CHECKPOINT) as draft:
        torch.save(checkpoint, draft)
    about = Contents(bank, ids, progress).about()
    settings = {"box_warp": 2 * representation.extent, "bg_color": about["background"]}
    write_json(out / SCENES_FILE, {"ids": ids, "their_settings": settings, "about": about})
    said = f"{out / CHECKPOINT}: {len(ids):,} scene{'s' * (len(ids) > 1)}; rows and settings of their code are in {SCENES_FILE}"
    if settings["box_warp"] != 2:
        said += f"; set its box_warp to {settings['box_warp']:g}"
    return said


def _require_place(model: SceneModel, version: str) -> None:
    representation, autoencoder = model.representation, model.autoencoder
    mistakes = {
        "scenes that are no tri-planes": not isinstance(representation, MicroMacro | TriPlanes),
        "heads of single scenes": model.own_heads,
        "visual hulls (train with FullRay or InsideBall)": model.samples_hulls,
        f"a head of other than {HIDDEN} neurons": model.renderer.head.hidden.out_features != HIDDEN,
        f"a {type(autoencoder).__name__}": not isinstance(autoencoder, IdentityAutoencoder | KLAutoencoder),
        "a yz plane: its third is zx (plane_axes xy-xz-zx)": getattr(representation, "plane_axes", "") == "xy-xz-yz",
    }
    for name in (name for name, is_there in mistakes.items() if is_there):
        raise UsageError(f"the authors' layout has no place for {name}, as version {version!r} has: export it as npz")


def read_official(
    checkpoint: Path, bank: Path, ids: list[str] | None, config: Path | None, extent: float, resolution: int
) -> SceneBank:
    """Make a bank of a checkpoint of the papers' own code. All scenes are in memory together.

    Args:
        checkpoint: The file.
        bank: Folder of the bank; scenes are added as its version ``official``.
        ids: Of the scenes; those of ``scenes.json`` beside the file, or scene-00000 and so on, where it is None.
        config: ``config.json`` of its AutoencoderKL; Stable Diffusion 1.5's where it is None.
        extent: Planes cover [-extent, extent]³: half of ``box_warp``.
        resolution: Pixels along each side of an image.

    Raises:
        UsageError: It is no such checkpoint, or holds something that a bank has no place for.
    """
    content = _load(checkpoint)
    try:
        model = _model(content, config, extent, resolution)
    except (LookupError, AttributeError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"{checkpoint} is no checkpoint of the papers' code, or one of another model "
            f"({type(error).__name__}: {reason}): give its gvae_latest.pt, and --autoencoder with its config.json"
        ) from None
    count = model.representation.num_scenes
    names = ids or _names(checkpoint.with_name(SCENES_FILE)) or [f"scene-{row:05d}" for row in range(count)]
    if len(names) != count:
        raise UsageError(
            f"{checkpoint} has {count} scenes, and there are {len(names)} ids: give one for each, in order"
        )
    return SceneBank.write(bank, model, names, "official", [""] * count)


def _load(checkpoint: Path) -> dict[str, Any]:
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, ValueError, EOFError, LookupError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"{checkpoint} cannot be read ({reason}): give gvae_latest.pt of the papers' code") from None
    if not isinstance(content, dict) or not {"vae", "nerfs", "renderer"} <= content.keys():
        raise UsageError(f"{checkpoint} has no vae, nerfs and renderer: give gvae_latest.pt of the papers' code")
    return content


@torch.no_grad()
def _model(content: dict[str, Any], config: Path | None, extent: float, resolution: int) -> SceneModel:
    """The scenes, with all that they share.

    Raises:
        UsageError: It has something that scenes here have not.
        LookupError, RuntimeError, …: The layout is another one.
    """
    nerfs, head = content["nerfs"], {name.removeprefix("module."): value for name, value in content["renderer"].items()}
    local = nerfs["local_planes"]
    count, planes, channels, size, _ = local.shape
    bases = nerfs.get("global_planes")
    macro = 0 if bases is None else bases.shape[2]
    if bool(nerfs.get("bias", torch.zeros(1)).any()):
        raise UsageError("its scenes have a bias other than 0, which scenes here have no place for")
    hidden, features = head["decoder.net.0.weight"].shape
    if features != channels + macro or planes != 3:
        raise UsageError(
            f"its MLP reads {features} features, and planes have {channels} + {macro}: sums of planes, coordinates and "
            "directions have no place here"
        )
    axes: Literal["xy-xz-zx"] = "xy-xz-zx"
    representation: MicroMacro | TriPlanes
    if bases is None:
        representation = TriPlanes(channels, size, extent, axes)
    else:
        representation = MicroMacro(channels, macro, len(bases), size, extent, axes)
        representation.bases.copy_(bases.movedim(2, -1))
    model = SceneModel(
        representation, _autoencoder(content, config), FullRay(), hidden_channels=hidden, resolution=resolution
    )
    representation.new_scenes(count)
    rows = {"micro": local.movedim(2, -1), "mixing": nerfs.get("coefs")}
    for name, table in representation.scene_tables().items():
        table.weight.copy_(_same(rows[name], table.weight))
    names = {f"{ours}.{kind}": f"{theirs}.{kind}" for theirs, ours in _LAYERS.items() for kind in ("weight", "bias")}
    model.renderer.head.load_state_dict({ours: head[theirs] for ours, theirs in names.items()})
    if model.autoencoder.latent_channels == len(BACKGROUND):
        model.background.copy_(2 * torch.tensor(BACKGROUND) - 1)
    else:
        model.measure_background()
    return model


def _same(values: Tensor, like: Tensor) -> Tensor:
    if values.shape != like.shape:
        raise RuntimeError(f"a tensor has the shape {list(values.shape)}, and should have {list(like.shape)}")
    return values


def _autoencoder(content: dict[str, Any], config: Path | None) -> Autoencoder:
    state = content["vae"]
    if not state:
        return IdentityAutoencoder()
    described = dict(_STABLE_DIFFUSION)
    if config is not None:
        file = config / "config.json" if config.is_dir() else config
        try:
            described = parse_json(read_file(file))
        except (OSError, ValueError) as error:
            raise UsageError(f"{file} cannot be read ({error}): give the config.json of its AutoencoderKL") from None
    autoencoder = KLAutoencoder(config=described)
    autoencoder.network.load_state_dict(state)
    return autoencoder


def _names(file: Path) -> list[str] | None:
    """Ids of the scenes where :func:`write_official` has left them."""
    if not file.is_file():
        return None
    try:
        names = parse_json(read_file(file))["ids"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UsageError(f"{file} cannot be read ({error}): remove it, or name the scenes by --scenes") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{file} lists no ids: remove it, or name the scenes by --scenes")
    return names
