"""What scenes cost: bytes per scene and shared, itemised, raw and on disk, and milliseconds per image (method 8)."""

from __future__ import annotations

import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from scaled_ig.bank.blocks import BLOCKS, MEAN, START
from scaled_ig.bank.changes import files_of
from scaled_ig.bank.description import build
from scaled_ig.bank.index import INDEX_FILE, BankVersion, Index
from scaled_ig.bank.scene_records import float32_bytes
from scaled_ig.bank.table import RecordTable
from scaled_ig.bank.writing import of_all
from scaled_ig.cameras import focal_of, orbit
from scaled_ig.distributed.cores import processor_name
from scaled_ig.documents import parse_json
from scaled_ig.scene_model import SceneModel

BESIDE = {MEAN: "mean scene", START: "start of scenes"}
"""What a file of shared parts holds beside the model's, by how names of its tensors begin."""


def row_bytes(model: SceneModel) -> dict[str, int]:
    """Bytes of a scene's rows in memory, by table."""
    tables = model.representation.scene_tables()
    return {name: math.prod(table.row_shape) * table.weight.element_size() for name, table in tables.items()}


def bytes_per_scene(model: SceneModel) -> dict[str, int]:
    """Bytes of a scene's own parameters in a float32 record, by table; the mean over all scenes. Collective.

    Scenes differ where they have hulls: texels that no sample within them reads are not kept.
    """
    representation = model.representation
    if representation.hull is None or not representation.num_scenes:
        return row_bytes(model)
    totals: Counter[str] = Counter()
    for index in range(len(representation.hull.weight)):
        rows = {name: table.weight[index] for name, table in representation.scene_tables().items()}
        totals.update(float32_bytes(rows, representation.texels))
    of_ranks = of_all(totals)
    return {
        name: round(sum(total[name] for total in of_ranks) / representation.num_scenes) for name in row_bytes(model)
    }


def shared_parts(model: SceneModel) -> dict[str, str]:
    """Which part each entry of the shared state belongs to: a shared parameter's name, head, encoder, …, buffers."""
    autoencoder = model.autoencoder
    parts: dict[str, Iterable[Tensor]] = {
        **{name: [parameter] for name, parameter in model.representation.shared_parameters().items()},
        "head": model.renderer.head.parameters(),
        "encoder": autoencoder.encoder_parameters(),
        "decoder": autoencoder.decoder_parameters(),
        "small_decoder": autoencoder.small_decoder_parameters(),
    }
    part_of = {id(parameter): part for part, parameters in parts.items() for parameter in parameters}
    named = dict(model.named_parameters(remove_duplicate=False))
    return {name: part_of.get(id(named.get(name)), "buffers") for name in model.shared_state()}


def shared_bytes(model: SceneModel) -> dict[str, int]:
    """Bytes of what all scenes share, by part; halves that an autoencoder has not are 0."""
    state, sizes = model.shared_state(), dict.fromkeys(model.representation.shared_parameters(), 0)
    sizes |= dict.fromkeys(("head", "encoder", "decoder", "small_decoder", "buffers"), 0)
    for name, part in shared_parts(model).items():
        sizes[part] += state[name].numel() * state[name].element_size()
    return sizes


def bank_bytes(folder: Path) -> dict[str, dict[str, int]]:
    """Bytes on disk of all files of a bank, by what they hold.

    Counted from the contents: lengths of records, extents of tensors. They add up to the sizes of the files unless
    some file has bytes that nothing in the bank names.

    Args:
        folder: Of the bank.

    Returns:
        ``records`` by version; ``shared`` of each file of shared parts, by part; ``index``: what finds them;
        ``other``: files of somebody else. The shared entry of several versions bears all their names.

    Raises:
        UsageError: There is no bank, or it is damaged.
    """
    index = Index.read(folder)
    table = RecordTable(folder / index.table)
    versions = index.versions
    items = {"records": {name: table.total(name) for name, version in versions.items() if version.num_scenes}}
    for names in versions_by_file(versions):
        items[f"shared {', '.join(names)}"] = shared_file_bytes(folder, versions[names[0]])
    items["index"] = {name: (folder / name).stat().st_size for name in (INDEX_FILE, index.table)}
    named = {INDEX_FILE, index.table, *(f"{BLOCKS}/{name}" for name in table.blocks())}
    named |= {version.shared_file for version in versions.values()}
    other_files = files_of(folder) - named
    if not other_files:
        return items
    return items | {"other": {name: (folder / name).stat().st_size for name in sorted(other_files)}}


def versions_by_file(versions: dict[str, BankVersion]) -> list[list[str]]:
    """Names of versions, those together whose shared parts are one file."""
    groups: dict[str, list[str]] = {}
    for name, version in versions.items():
        groups.setdefault(version.shared_sha256, []).append(name)
    return list(groups.values())


def shared_file_bytes(folder: Path, version: BankVersion) -> dict[str, int]:
    """Bytes of a file of shared parts, by part; its table of contents, and where scenes start, apart.

    Args:
        folder: Of the bank.
        version: Whose file it is.
    """
    with (folder / version.shared_file).open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        contents = parse_json(stream.read(length))
    parts, sizes = shared_parts(build(version.model)), {"contents": 8 + length}
    for name, tensor in contents.items():
        if name != "__metadata__":
            start, end = tensor["data_offsets"]
            beside = (title for start, title in BESIDE.items() if name.startswith(start))
            part = next(beside, None) or parts[name]
            sizes[part] = sizes.get(part, 0) + end - start
    return sizes


@torch.no_grad()
def milliseconds_per_image(model: SceneModel, repeats: int = 9) -> dict[str, float]:
    """Median time to render one latent image and to decode it, warm, one image at a time, synchronised."""
    device = model.background.device
    camera, table = (
        orbit(1, focal=focal_of(model.image_size)).to(device),
        next(iter(model.representation.scene_tables().values())),
    )
    owned = torch.tensor([table.owned.start], device=device)
    latent = model.render_latent(camera, owned)
    return {
        "render": _median_milliseconds(lambda: model.render_latent(camera, owned), repeats, device),
        "decode": _median_milliseconds(lambda: model.decode(latent), repeats, device),
    }


def _median_milliseconds(work: Callable[[], object], repeats: int, device: torch.device) -> float:
    def synchronise() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    times = []
    for _ in range(repeats + 2):
        synchronise()
        start = time.perf_counter()
        work()
        synchronise()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[2:])


def describe_machine(device: torch.device) -> dict[str, str | int]:
    """Where figures were measured: processor or GPU, cores that torch uses, version of torch."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()
    return {"device": str(device), "name": name, "threads": torch.get_num_threads(), "torch": torch.__version__}
