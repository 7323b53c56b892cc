"""HTML by plain functions: one file without any address, so that it opens anywhere and for ever."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from html import escape as _escape
from pathlib import Path

STYLE = """
:root { --ink: #1b1f24; --soft: #57606a; --faint: #8a929b; --rule: #e4e8ec; --wash: #f6f8fa; --accent: #0072b2; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: #fff; color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1100px; margin: 0 auto; padding: 56px 24px 96px; }
h1 { font-size: 38px; line-height: 1.15; letter-spacing: -0.022em; font-weight: 680; margin: 0 0 14px; }
h2 { font-size: 23px; letter-spacing: -0.012em; font-weight: 650; margin: 72px 0 8px; }
h3 { font-size: 15px; font-weight: 650; margin: 32px 0 8px; }
p { margin: 0 0 12px; max-width: 780px; }
.lead { font-size: 18px; color: var(--soft); }
.eyebrow { font-size: 13px; color: var(--faint); margin: 0 0 10px; letter-spacing: 0.02em; }
.note, figcaption, caption { font-size: 13.5px; line-height: 1.5; color: var(--soft); }
figure { margin: 18px 0 0; }
figcaption { margin-top: 10px; max-width: 780px; }
figure img.chart, video { display: block; width: 100%; height: auto; }
video { border: 1px solid var(--rule); border-radius: 8px; }
pre { background: var(--wash); border-radius: 8px; padding: 12px 16px; margin: 18px 0 0; overflow-x: auto;
  font: 13px/1.6 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: 14px; margin: 32px 0 0; }
.tile { border: 1px solid var(--rule); border-radius: 10px; padding: 16px 18px 14px; }
.tile b { display: block; font-size: 30px; font-weight: 660; letter-spacing: -0.02em; line-height: 1.2;
  font-variant-numeric: tabular-nums; }
.tile b small { font-size: 16px; font-weight: 500; color: var(--soft); letter-spacing: 0; }
.tile span { display: block; font-size: 13.5px; line-height: 1.4; color: var(--soft); margin-top: 4px; }
.scroll { overflow-x: auto; margin-top: 16px; }
table { border-collapse: collapse; width: 100%; font-size: 14.5px; }
caption { caption-side: bottom; text-align: left; padding-top: 10px; }
caption span { display: block; max-width: 780px; }
th, td { padding: 7px 10px; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th.word, td.word { text-align: left; }
th:first-child, td:first-child { padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
thead th { font-weight: 550; font-size: 13px; color: var(--soft); vertical-align: bottom; white-space: normal;
  border-bottom-color: #c8cdd2; }
tbody td { font-variant-numeric: tabular-nums; }
tr.strong td { font-weight: 640; }
td.none { color: var(--faint); }
.columns { display: grid; grid-template-columns: 1fr 1fr; gap: 0 56px; align-items: start; }
.views { display: grid; gap: 6px 6px; margin-top: 14px; }
.views .head { font-size: 13px; color: var(--soft); padding-bottom: 2px; }
.views .name { grid-column: 1 / -1; font-size: 13px; color: var(--soft); margin: 2px 0 8px; display: flex; gap: 14px;
  font-variant-numeric: tabular-nums; }
.views .name b { color: var(--ink); font-weight: 620; }
.views img { display: block; width: 100%; aspect-ratio: 1; border-radius: 4px; outline: 1px solid #eef1f4; }
img.pixels { image-rendering: pixelated; }
@media (max-width: 760px) { .tiles, .columns { grid-template-columns: 1fr 1fr; } h1 { font-size: 30px; } }
"""


DASH, MINUS, TIMES, APOSTROPHE = (
    "\N{EN DASH}",
    "\N{MINUS SIGN}",
    "\N{MULTIPLICATION SIGN}",
    "\N{RIGHT SINGLE QUOTATION MARK}",
)


def escape(text: str) -> str:
    """Text for the page, with the apostrophe of print."""
    return _escape(text.replace("'", APOSTROPHE))


def signed(value: float) -> str:
    """A difference with its sign."""
    return f"{value:+.2f}".replace("-", MINUS)


def html_page(title: str, parts: Iterable[str]) -> str:
    """The whole page."""
    body = "\n".join(part for part in parts if part)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """A titled part of the page; nothing where it has no content."""
    body = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}\n</section>" if body else ""


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph; nothing where there is no text."""
    return f"<p{_kind(kind)}>{escape(text)}</p>" if text else ""


def commands(lines: Sequence[str]) -> str:
    """Lines for a shell."""
    return f"<pre>{_escape(chr(10).join(lines))}</pre>"


def tiles(items: Sequence[tuple[str, str, str]]) -> str:
    """Large numbers: (number, unit, what it is)."""
    cells = "".join(
        f'<div class="tile"><b>{escape(number)} <small>{escape(unit)}</small></b><span>{escape(text)}</span></div>'
        for number, unit, text in items
    )
    return f'<div class="tiles">{cells}</div>'


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "", strong: Iterable[int] = (), words: int = 1
) -> str:
    """A table of numbers.

    Args:
        head: Titles of the columns.
        rows: Cells.
        caption: What one sees.
        strong: Rows that stand out.
        words: So many columns hold words, which are aligned on the left.
    """
    strong = set(strong)
    header = "".join(_cell(cell, "th", column < words) for column, cell in enumerate(head))
    body = "\n".join(
        f"<tr{_kind('strong' if place in strong else '')}>"
        + "".join(_cell(cell, "td", column < words) for column, cell in enumerate(row))
        + "</tr>"
        for place, row in enumerate(rows)
    )
    below = f"<caption><span>{escape(caption)}</span></caption>" if caption else ""
    return (
        f'<div class="scroll"><table>{below}<thead><tr>{header}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'
    )


def _cell(text: str, tag: str, is_word: bool) -> str:
    kind = "word" if is_word else "none" if text in (DASH, "not on this machine") else ""
    return f"<{tag}{_kind(kind)}>{escape(text)}</{tag}>"


def _kind(name: str) -> str:
    return f' class="{name}"' if name else ""


def chart(address: str, alternative: str, caption: str) -> str:
    """A chart with what one sees in it."""
    return (
        f'<figure><img class="chart" src="{address}" alt="{escape(alternative)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def film(address: str, still: str, caption: str) -> str:
    """A film that plays by itself, with a still for where films do not play."""
    return (
        f'<figure><video autoplay loop muted playsinline poster="{still}"><source src="{address}" type="video/mp4">'
        f"</video><figcaption>{escape(caption)}</figcaption></figure>"
    )


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
