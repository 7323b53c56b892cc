"""Charts within a page: SVG that takes its colours from the page, so that it is readable on dark ones too."""

from __future__ import annotations

import re
from html import escape

# Okabe and Ito's colours, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, PINK, SKY, YELLOW = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"
INK, SOFT, GREY, EDGE, RULE, BAND = "#24292f", "#57606a", "#8a929b", "#c8cdd2", "#e9ecef", "#f4f6f8"
COLOURS = {
    BLUE: "blue",
    ORANGE: "orange",
    GREEN: "green",
    PINK: "pink",
    SKY: "sky",
    YELLOW: "yellow",
    INK: "ink",
    SOFT: "soft",
    GREY: "faint",
    EDGE: "edge",
    RULE: "rule",
    BAND: "band",
    "#ffffff": "page",
}
"""Colours of charts, and the variables of ``style.css`` that stand for them."""


def _variable(colour: re.Match[str]) -> str:
    return f"var(--{COLOURS[colour[0]]})" if colour[0] in COLOURS else colour[0]


def inline(svg: bytes, name: str, kind: str, alternative: str) -> str:
    """A chart as a part of a page, HTML.

    Args:
        svg: Of :mod:`scaled_ig.report.figures`.
        name: Begins its ids, since those of a page must differ.
        kind: Class of the element.
        alternative: What it shows, for who does not see it.
    """

    def themed(tag: re.Match[str]) -> str:
        text = re.sub(r'\bid="', f'id="{name}-', tag[0]).replace("url(#", f"url(#{name}-")
        text = text.replace('xlink:href="#', f'href="#{name}-')
        return re.sub("#[0-9a-f]{6}", _variable, text)

    document = re.search(r'viewBox="([^"]+)"[^>]*>(.*)</svg>', svg.decode(), re.DOTALL)
    assert document
    box, content = document.groups()
    inner = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", content, flags=re.DOTALL)
    inner = re.sub("<[^>]+>", themed, inner)
    return f'<svg class="{kind}" viewBox="{box}" role="img" aria-label="{escape(alternative)}">{inner}</svg>'
