"""The card of a data set: what it is, how to open it, and under which licence."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scaled_ig.export.contents import Contents

KNOWN_LICENCES = {
    "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-4.0",
    "cc-by-nd-4.0", "cc-by-sa-4.0", "cc0-1.0", "mit", "odc-by", "odbl",
}  # fmt: skip
"""Those that the Hub has a word for, and a source may name."""
_SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}


def card(contents: Contents, features: dict[str, Any], name: str) -> str:
    """The card's text.

    Args:
        contents: What was written.
        features: Columns as the datasets library describes them.
        name: Id of the data set on the Hub.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=False,  # it is Markdown
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    bases, statistics = contents.shared().get("bases"), contents.statistics()
    counts = Counter(record.licence for record in contents.records)
    text = environment.get_template("card.md").render(
        about=contents.about(),
        bases=None if bases is None else list(bases.shape),
        count=len(contents.records),
        has_hulls="hull" in contents.row_shapes,
        has_mixing="mixing" in contents.row_shapes,
        has_own_heads=contents.model.own_heads,
        is_rgb=contents.model.is_rgb,
        licences=[(_plain(licence), number) for licence, number in sorted(counts.items())],
        name=json.dumps(name),
        shape=list(contents.plane_shape),
        statistics=[
            [f"{value:.4g}" for value in row]
            for row in zip(*(array.tolist() for array in statistics.values()), strict=True)
        ],
    )
    return f"---\n{yaml.safe_dump(_head(contents, features, set(counts)), sort_keys=False)}---\n{text}"


def _plain(text: str) -> str:
    """A text of somebody else, as it is in a table of Markdown."""
    return "".join(f"&#{ord(sign)};" if sign in "|<>&`[]*_\\" else sign for sign in text)


def _head(contents: Contents, features: dict[str, Any], licences: set[str]) -> dict[str, Any]:
    """What the Hub reads at the top of the card."""
    licence = licences.pop().lower() if len(licences) == 1 else "several"
    return {
        "license": licence if licence in KNOWN_LICENCES else "other" if licence else "unknown",
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
    return {"dtype": {f"array{len(feature['shape'])}_d": {"shape": feature["shape"], "dtype": feature["dtype"]}}}
