"""Autoencoders of diffusers: read from a folder or the Hub, whole or not at all."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from scaled_ig.autoencoders.base import Autoencoder
from scaled_ig.documents import DocumentError, parse_json, read_file
from scaled_ig.errors import UsageError, explain
from scaled_ig.finite import is_finite

_CONFIG = "config.json"
_POINTER = b"version https://git-lfs"
_WEIGHTS = {".safetensors", ".bin", ".ckpt", ".pt", ".pth", ".msgpack"}
_VARIANT = re.compile(r"diffusion_pytorch_model(\.([\w-]+))?\.safetensors")
_MOST_NAMES = 4  # of weights in a sentence
_MOST_WEIGHTS_PER_BYTE = 16  # that a configuration may ask for before memory is taken: weights have a byte or more
_NO_NETWORK = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError)
SERVED = {"AutoencoderKL": "KLAutoencoder", "AutoencoderTiny": "TinyAutoencoder"}
"""Classes of diffusers, and the classes here that use them."""


class PretrainedAutoencoder(Autoencoder):
    """A network of diffusers, in float32 whatever its weights are kept in.

    Concrete classes name its class and an example of a Hub id.
    """

    network_class: str
    example: str

    def _open(self, pretrained: str, subfolder: str, variant: str | None, config: dict[str, Any] | None) -> None:
        """Set the network and what describes it; arguments as those of the constructors."""
        self.pretrained, self.subfolder, self.variant = pretrained, subfolder, variant
        self.network = self._load() if config is None else self._build(config)
        self.config = {name: value for name, value in self.network.config.items() if not name.startswith("_")}
        channels = self.config["in_channels"], self.config["out_channels"]
        if channels != (3, 3):
            raise UsageError(
                f"the autoencoder's images have {channels[0]} and {channels[1]} channels, and views have 3"
            )
        self.latent_channels = self.config["latent_channels"]

    def decode(self, latents: Tensor) -> Tensor:
        return self.network.decode(latents.contiguous(memory_format=torch.channels_last)).sample.float()

    def compile(self, *args: Any, **options: Any) -> None:
        super().compile(*args, **options)
        for network in self.network.children():  # encode and decode call these
            network.compile(*args, **options)

    def _build(self, config: dict[str, Any]):
        import diffusers  # takes seconds to import, and only these autoencoders need it

        try:
            return getattr(diffusers, self.network_class).from_config(config)
        except _NO_NETWORK as error:
            raise UsageError(f"its configuration makes no {self.network_class} ({_short(error)})") from None

    def _load(self):
        """The network with its weights.

        Raises:
            UsageError: A file is not there, cut short or a pointer, the configuration is of another class, or weights
                are missing, unexpected, of other shapes or not finite.
        """
        import diffusers

        for library in ("diffusers", "huggingface_hub"):  # advice of no use here; what matters is told below
            logging.getLogger(library).setLevel(logging.CRITICAL)
        config_file = self._file(_CONFIG)
        try:
            config = parse_json(read_file(config_file))
        except (OSError, DocumentError) as error:
            raise UsageError(f"{config_file} cannot be read ({error}){_pointer_hint(config_file)}") from None
        self._require_class(config_file, config)
        weights = self._file("diffusion_pytorch_model.safetensors", self.variant)
        try:
            with safe_open(weights, "pt"):
                pass
        except (OSError, SafetensorError) as error:
            hint = _pointer_hint(weights) or ": it is cut short or no safetensors; download it again"
            raise UsageError(f"{weights} holds no weights ({error}){hint}") from None
        with torch.device("meta"):
            count = sum(parameter.numel() for parameter in self._build(config).parameters())
        if count > _MOST_WEIGHTS_PER_BYTE * weights.stat().st_size:
            raise UsageError(f"{config_file} asks for {count:,} weights, more than {weights.name} can hold")
        try:
            network, report = getattr(diffusers, self.network_class).from_pretrained(
                config_file.parent,
                variant=self.variant,
                use_safetensors=True,
                low_cpu_mem_usage=False,
                ignore_mismatched_sizes=True,  # they are in the report
                output_loading_info=True,
            )
        except (*_NO_NETWORK, OSError) as error:
            raise UsageError(f"{config_file} makes no {self.network_class} ({_short(error)})") from None
        _refuse_misfit(weights, self.network_class, report)
        broken = sorted(name for name, value in network.state_dict().items() if not is_finite(value))
        if broken:
            raise UsageError(f"{weights} has weights that are not finite ({_names(broken)}): download it again")
        return network

    def _require_class(self, config_file: Path, config: Any) -> None:
        name = config.get("_class_name", self.network_class) if isinstance(config, dict) else None
        if name == self.network_class:
            return
        if not isinstance(name, str):
            raise UsageError(f"{config_file} is no configuration of diffusers: it names no _class_name")
        way_out = f"--scene.autoencoder {SERVED[name]}" if name in SERVED else f"give one of {' or '.join(SERVED)}"
        raise UsageError(
            f"{config_file} asks for {name[:80]}, and {type(self).__name__} uses {self.network_class}: {way_out}"
        )

    def _file(self, name: str, variant: str | None = None) -> Path:
        """A file of the folder, or of the Hub or its cache."""
        stem, ending = name.rsplit(".", 1)
        name = f"{stem}.{variant}.{ending}" if variant else name
        if Path(self.pretrained).is_dir():
            folder = Path(self.pretrained) / self.subfolder
            folder = folder if folder.is_dir() else Path(self.pretrained)
            if not (folder / name).is_file():
                raise UsageError(self._absence(folder, name))
            return folder / name
        if os.path.exists(self.pretrained):
            raise UsageError(f"{self.pretrained} is a file: give the folder of config.json and weights")
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError

        if name == _CONFIG:
            print(f"autoencoder: {self.pretrained} from the Hub or its cache", flush=True)
        try:
            return Path(hf_hub_download(self.pretrained, name, subfolder=self.subfolder or None))
        except (OSError, ValueError, HfHubHTTPError) as error:
            reason = explain(error) if isinstance(error, OSError) and error.errno else _short(error)
            raise UsageError(
                f"no {self.network_class} ({name}) in {self.pretrained}: there is no such folder, and the Hub and its "
                f"cache do not give it ({reason}): {self._way_out()}"
            ) from None

    def _absence(self, folder: Path, name: str) -> str:
        """Why a file is not in a folder, with the way out."""
        where = f"the folder {folder.resolve()}"
        others = sorted(path.name for path in folder.iterdir() if path.suffix in _WEIGHTS)
        inside = sorted(path.parent.name for path in folder.glob(f"*/{_CONFIG}"))
        option = "--scene.autoencoder.init_args"
        if name == _CONFIG and others:
            return f"no {name} in {where}, only {_names(others)}: put the {name} of these weights beside them"
        if others:
            variants = [match[2] or "null" for match in map(_VARIANT.fullmatch, others) if match]
            way_out = (
                f"give {option}.variant {variants[0]}" if variants else "save it so with diffusers' save_pretrained"
            )
            return f"no {name} in {where}, only {_names(others)}: {way_out}"
        if name == _CONFIG and inside:
            choice = "vae" if "vae" in inside else inside[0]
            return f"no {name} in {where}, only in {_names(inside)} of it: give {option}.subfolder {choice}"
        return (
            f"no {self.network_class} ({_CONFIG} and diffusion_pytorch_model.safetensors) in {where}: {self._way_out()}"
        )

    def _way_out(self) -> str:
        return (
            f"download {self.example} on a machine with a network and give its folder with "
            "--scene.autoencoder.init_args.pretrained FOLDER, or train without weights: "
            "--config experiments/recipes/latent.yaml"
        )


def _pointer_hint(path: Path) -> str:
    """What to do where a file is a pointer of Git LFS; nothing where it is none."""
    with path.open("rb") as file:
        is_pointer = file.read(len(_POINTER)) == _POINTER
    return ": it is a Git LFS pointer, not the file itself: run git lfs pull in its folder" if is_pointer else ""


def _refuse_misfit(weights: Path, network_class: str, report: dict[str, Any]) -> None:
    """Raise UsageError where weights and network are not each other's, with names."""
    shapes = sorted(f"{name} {list(there)} for {list(wanted)}" for name, there, wanted in report["mismatched_keys"])
    lists = {
        "missing": sorted(report["missing_keys"]),
        "unexpected": sorted(report["unexpected_keys"]),
        "of other shapes": shapes,
        "not read": sorted(report["error_msgs"]),
    }
    faults = [f"{len(names)} {fault} ({_names(names)})" for fault, names in lists.items() if names]
    if faults:
        raise UsageError(
            f"{weights} does not go with its {_CONFIG}: weights are {', '.join(faults)}: give those of this very "
            f"{network_class}"
        )


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _names(names: list[str]) -> str:
    left = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {left:,} others" if left > 0 else "")
