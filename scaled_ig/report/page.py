"""A run's page: one template makes HTML of plain data, in one file without any address, so that it opens anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scaled_ig.report import charts, pictures

DASH = "\N{EN DASH}"


def number(value: float | None, digits: int = 2, missing: str = DASH) -> str:
    """A number for a reader."""
    return missing if value is None else f"{value:,.{digits}f}"


def signed(value: float) -> str:
    """A difference with its sign."""
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def kibibytes(size: float) -> str:
    """Bytes in KiB."""
    return number(size / 1024, 1 if size < 1 << 20 else 0)


def html(content: dict[str, Any]) -> str:
    """The whole page.

    Args:
        content: What ``templates/report.html`` names at its head; what it does not find there is an error.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "signed": signed,
        "kibibytes": kibibytes,
        "print": lambda text: text.replace("'", "\N{RIGHT SINGLE QUOTATION MARK}"),
        "uri": pictures.data_uri,
        "webp": lambda picture: pictures.data_uri(pictures.encode(picture, "WEBP"), "image/webp"),
        "inline": charts.inline,
    }
    return environment.get_template("report.html").render(content)
