"""Which page a folder has: that of a bank, or that of a pack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_modules.layout import INDEX_FILE as PACK_FILE
from data_modules.layout import PackIndex
from scaled_ig.bank.index import INDEX_FILE as BANK_FILE
from scaled_ig.bank.reading import bank_folder
from scaled_ig.bank.scene_bank import SceneBank
from scaled_ig.errors import UsageError
from scaled_ig.viewer.bank_page import BankPage
from scaled_ig.viewer.pack_page import Pack, PackPage
from scaled_ig.viewer.scenes import Scenes
from scaled_ig.viewer.server import Page
from scaled_ig.viewer.views import truth_of


@dataclass(frozen=True)
class Pages:
    """Pages of what is looked at.

    Args:
        name: What it is, in words.
        open: Builds the page of a browser.
    """

    name: str
    open: Callable[[Any], Page]


def page_of(path: Path, pack: str | None) -> Pages:
    """Pages of a folder.

    Args:
        path: A run, a bank or a pack.
        pack: The run's pack where it has been moved.

    Raises:
        UsageError: It is none of them, or holds nothing.
    """
    if (path / PACK_FILE).is_file():
        if pack is not None:
            raise UsageError(f"--pack {pack}: {path} is a pack itself: leave it out")
        index = PackIndex.open(path)
        views = Pack(index)
        return Pages(f"{path}: {index.num_scenes:,} scenes of a pack", lambda client: PackPage(client, views))
    folder = bank_folder(path)
    if not (folder / BANK_FILE).is_file():
        raise UsageError(f"{path} is no run with a bank, no bank and no pack: give the folder of one")
    bank = SceneBank.open(folder)
    ids = bank.ids
    if not ids:
        raise UsageError(f"{folder} holds no scenes: finish a phase of training first")
    scenes, truth = Scenes(bank), truth_of(path, pack)
    categories = [truth.category_of.get(name, "") for name in ids]
    title = f"### {path.name}\n{len(ids):,} scenes"
    return Pages(f"{path}: {len(ids):,} scenes", lambda client: BankPage(client, title, scenes, ids, categories, truth))
