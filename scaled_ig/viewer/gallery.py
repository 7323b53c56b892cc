"""Scenes by thumbnail: pages of clickable pictures, and a filter by id or category."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from scaled_ig.report.pictures import data_uri

PER_PAGE = 12

# The page's own inputs are React's: they hear of a value only by the setter of the browser and an event.
_PICK = (
    "const i=document.querySelector('label[for=&quot;{field}&quot;]').parentElement.parentElement.parentElement"
    ".querySelector('input');"
    "Object.getOwnPropertyDescriptor(HTMLInputElement.prototype,'value').set.call(i,this.dataset.id);"
    "i.dispatchEvent(new Event('input',{{bubbles:true}}))"
)
_STYLE = """<style>
.gallery{display:grid;grid-template-columns:repeat(3,1fr);gap:6px;padding:0 .75em .5em}
.gallery>div{position:relative;min-width:0}
.gallery button{all:unset;cursor:pointer;display:block;width:100%;box-sizing:border-box;font-size:11px;line-height:1.3}
.gallery button:focus-visible{outline:2px solid #1c7ed6}
.gallery .scene img{width:100%;aspect-ratio:1;object-fit:cover;border-radius:4px;display:block;
 border:2px solid transparent;box-sizing:border-box}
.gallery .chosen .scene img{border-color:#1c7ed6}
.gallery .other .scene img{border-color:#f08c00}
.gallery .scene span{display:block;overflow:hidden;text-overflow:ellipsis;white-space:nowrap;direction:rtl;
 text-align:left}
.gallery .mix{position:absolute;top:4px;right:4px;width:auto;padding:0 5px;border-radius:3px;
 background:#fffc;color:#333}
.gallery .mix:hover{background:#f08c00;color:#fff}
.gallery+p{margin:0;padding:0 1em .25em;font-size:12px}
</style>"""


class Gallery:
    """Pages of thumbnails beside a text field that holds the id of what is shown.

    Args:
        gui: Of a browser.
        ids: Scenes in order.
        categories: Of each scene; empty where they are not known.
        thumbnail: JPEG of a scene.
        fields: Text fields that clicks fill in: on a picture the first, on its second button the other, if any.
    """

    def __init__(
        self,
        gui: Any,
        ids: Sequence[str],
        categories: Sequence[str],
        thumbnail: Callable[[str], bytes],
        fields: Sequence[Any],
    ) -> None:
        self._ids, self._categories, self.thumbnail, self._fields = ids, categories, thumbnail, fields
        self._page, self._lock = 0, threading.Lock()
        self._filter = gui.add_text("filter", "", hint="Part of an id or of a category")
        self._html = gui.add_html("")
        self._pages = gui.add_button_group("page", ("‹", "›"), visible=len(ids) > PER_PAGE)
        self._filter.on_update(lambda _: self.draw(turn=None))
        self._pages.on_click(lambda event: self.draw(1 if event.target.value == "›" else -1))
        self.draw()

    def draw(self, turn: int | None = 0) -> None:
        """Draw the page again, as when another scene is chosen.

        Args:
            turn: So many pages further; None for the first one.
        """
        with self._lock:  # each browser has several threads, and the last one must see the newest filter
            wanted = self._filter.value.strip().lower()
            names = zip(self._ids, self._categories or [""] * len(self._ids), strict=True)
            matches = [name for name, category in names if wanted in name.lower() or wanted in category.lower()]
            page = 0 if turn is None else self._page + turn
            self._page = max(0, min(page, (len(matches) - 1) // PER_PAGE))
            first = self._page * PER_PAGE
            shown = matches[first : first + PER_PAGE]
            said = f"{first + 1:,} to {first + len(shown):,} of {len(matches):,}" if shown else "no such scene"
            cells = "".join(map(self._cell, shown))
            self._html.content = f'{_STYLE}<div class="gallery">{cells}</div><p>{said}</p>'

    def _cell(self, name: str) -> str:
        marks = ("chosen", "other")
        chosen = " ".join(mark for mark, field in zip(marks, self._fields, strict=False) if field.value == name)
        shown, picture = escape(name, quote=True), data_uri(self.thumbnail(name), "image/jpeg")
        pick, *rest = (_PICK.format(field=field._impl.uuid) for field in self._fields)
        mix = "".join(
            f'<button class="mix" title="mix with {shown}" data-id="{shown}" onclick="{way}">mix</button>'
            for way in rest
        )
        return (
            f'<div class="{chosen}"><button class="scene" title="{shown}" data-id="{shown}" onclick="{pick}">'
            f'<img src="{picture}" alt="{shown}"><span>{shown}</span></button>{mix}</div>'
        )
