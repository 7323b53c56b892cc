"""The card of a data set: what it is, how to open it, and under which licence."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import yaml

from scaled_ig.export.contents import Contents

KNOWN_LICENCES = {
    "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-4.0",
    "cc-by-nd-4.0", "cc-by-sa-4.0", "cc0-1.0", "mit", "odc-by", "odbl",
}  # fmt: skip
"""Those that the Hub has a word for, and a source may name."""
_SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}

_TEXT = """
# {count:,} scenes as tri-planes

Each row is a 3D scene: three feature planes that a tiny MLP reads. `planes` has the shape [3, {channels}, {size}, {size}],
float32; plane {axes} holds the coordinates along its columns and rows, over the cube [-{extent:g}, {extent:g}]³. Up is
+Z, the front is −Y, and objects are in the ball of radius 0.5.

| column | what it is |
|---|---|
| `id`, `category`, `licence` | of the scene; the licence is that of the views that it was learned from, empty where their source names none |
| `source_sha256` | digest of these views |
| `planes` | what is rendered{fused} |
{columns}
`shared.safetensors` holds what scenes share: {shared}; and `statistics.mean`, `.sd`, `.min` and `.max`, [{channels}] each,
over the planes of all rows. `about.json` describes the model. `decode.py` renders, with torch alone.

## To load

```python
from datasets import load_dataset

scenes = load_dataset({name!r}, split="train").with_format("torch")
planes = scenes[0]["planes"]  # [3, {channels}, {size}, {size}]
```

## To render

```python
import json

from huggingface_hub import snapshot_download
from safetensors.torch import load_file

folder = snapshot_download({name!r}, repo_type="dataset")  # or the folder that you have
exec(open(f"{{folder}}/decode.py").read())  # read it first; defines orbit_rays, field and render

shared, about = load_file(f"{{folder}}/shared.safetensors"), json.load(open(f"{{folder}}/about.json"))
head = {{name.removeprefix("head."): value for name, value in shared.items() if name.startswith("head.")}}{own_head}
rays = orbit_rays(azimuth=-1.0, elevation=0.5, resolution=128)
values, opacity = render(planes, head, about, *rays{hull})  # [128 · 128, {values}]
```

{rendered}

## Statistics of the channels

| channel | mean | standard deviation | least | greatest |
|---|---|---|---|---|
{statistics}

## Licences

{licences}

## How it was made

Learned by [Scaled Inverse Graphics](https://arxiv.org/abs/2410.23742) as scaled-ig {scaled_ig}{commit} implements it, torch
{torch}, version `{version}` of its bank (shared parts `{shared_sha256}`), kept there as {encoding}. The model:

```json
{model}
```
"""


def card(contents: Contents, features: dict[str, Any], name: str) -> str:
    """The card's text.

    Args:
        contents: What was written.
        features: Columns as the datasets library describes them.
        name: Id of the data set on the Hub.
    """
    about, rows = contents.about(), contents.row_shapes
    statistics = contents.statistics()
    is_rgb = about["values"] == "rgb"
    commit = f" (commit {about['commit']})" if about["commit"] else ""
    text = _TEXT.format(
        **{key: about[key] for key in ("extent", "scaled_ig", "torch", "version", "shared_sha256", "encoding")},
        name=name,
        commit=commit,
        count=len(contents.records),
        channels=contents.plane_shape[1],
        size=contents.plane_shape[2],
        axes=", ".join(about["plane_axes"].split("-")),
        fused=": a scene's own features, then the mixture of the base planes" if "mixing" in rows else "",
        columns="".join(_COLUMNS[key] for key in ("mixing", "hull") if key in rows),
        shared=_shared(contents),
        own_head="\nhead = {name: value[0] for name, value in head.items()}  # every scene has its own"
        * ("head" in rows),
        hull=', hull=scenes[0]["hull"]' if "hull" in rows else "",
        values=len(about["background"]),
        rendered=_RGB if is_rgb else _LATENTS,
        statistics="\n".join(
            f"| {row} | {' | '.join(f'{statistics[key][row]:.4g}' for key in ('mean', 'sd', 'min', 'max'))} |"
            for row in range(contents.plane_shape[1])
        ),
        licences=_licences(contents),
        model=json.dumps(about["model"], indent=1),
    )
    return f"---\n{yaml.safe_dump(_head(contents, features), sort_keys=False)}---\n{text}"


_COLUMNS = {
    "mixing": "| `mixing` | coefficients of the base planes: already in `planes` |\n",
    "hull": "| `hull` | bits of the visual hull, [64, 64, 8] uint8; outside it nothing is rendered |\n",
}
_RGB = "Values are RGB in [0, 1]."
_LATENTS = (
    "Values are latents of the autoencoder of the model below, mapped to [0, 1]: 2 · values − 1 are its normalised latents. "
    "Its weights are in the bank that this was exported from, and scaled-ig decodes them; they are not part of this data set."
)


def _shared(contents: Contents) -> str:
    head = "`head.hidden.weight`, `head.hidden.bias`, `head.out.weight`, `head.out.bias`"
    parts = [f"the MLP ({head})"] if not contents.model.own_heads else [f"the MLP of each scene, row by row ({head})"]
    bases = contents.shared().get("bases")
    return ", ".join(parts + ([f"`bases` {list(bases.shape)}"] if bases is not None else []))


def _licences(contents: Contents) -> str:
    counts = Counter(record.licence for record in contents.records)
    rows = "\n".join(f"| {_cell(name) or 'none named'} | {count:,} |" for name, count in sorted(counts.items()))
    advice = "\n\nAsk whoever made the views before you pass these scenes on." if "" in counts else ""
    return f"| licence of the views | scenes |\n|---|---|\n{rows}{advice}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _head(contents: Contents, features: dict[str, Any]) -> dict[str, Any]:
    """What the Hub reads at the top of the card."""
    licences = {record.licence.lower() for record in contents.records}
    licence = licences.pop() if len(licences) == 1 else "other"
    licence = {"": "unknown"}.get(licence, licence if licence in KNOWN_LICENCES else "other")
    return {
        "license": licence,
        "tags": ["3d", "nerf", "tri-planes", "inverse-graphics", "scaled-ig"],
        "size_categories": [next((size for most, size in _SIZES.items() if len(contents.records) < most), "n>1M")],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/*.parquet"}]}],
        "dataset_info": {"features": [{"name": name, **_in_yaml(feature)} for name, feature in features.items()]},
    }


def _in_yaml(feature: dict[str, Any]) -> dict[str, Any]:
    """A column in the words of a card's head."""
    kind = feature["_type"]
    if kind == "Value":
        return {"dtype": feature["dtype"]}
    if kind == "Sequence":
        return {"sequence": feature["feature"]["dtype"]}
    return {"dtype": {f"array{kind[5]}_d": {"shape": feature["shape"], "dtype": feature["dtype"]}}}
