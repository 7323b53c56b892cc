"""Configurations that are shipped, by short names: the files of ``experiments/``, which a wheel has in the package."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from scaled_ig.errors import UsageError, did_you_mean

GROUPS = ("scene", "data", "trainer")
"""Folders whose files are one key of a configuration each."""


@dataclass(frozen=True)
class Preset:
    """A configuration that is shipped.

    Attributes:
        name: of its file; with the folders where several files have that name and others lie higher.
        path: of its file.
        group: key that the file is the value of; empty for a file of several keys.
    """

    name: str
    path: Path
    group: str

    @property
    def summary(self) -> str:
        """First sentence of the file's head."""
        lines = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            if not line.startswith("#"):
                break
            lines.append(line.lstrip("# "))
        sentence, _, _ = " ".join(lines).partition(". ")
        return sentence.rstrip(".")

    @property
    def is_whole(self) -> bool:
        """Whether it runs by itself, with no other configuration beneath it."""
        return not self.group and "\nrun_dir:" in self.path.read_text(encoding="utf-8")


def folder() -> Path:
    """Where the files are: within the package where it is installed, beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "experiments"
    return installed if installed.is_dir() else package.parent / "experiments"


def presets() -> dict[str, Preset]:
    """All of them by name, whole configurations first."""
    root = folder()
    files = sorted(root.rglob("*.yaml"), key=lambda file: (len(file.relative_to(root).parts), file))
    depth = {file: len(file.relative_to(root).parts) for file in files}
    counts = Counter((file.stem, depth[file]) for file in files)
    named: dict[str, Preset] = {}
    for file in files:
        within = file.relative_to(root).with_suffix("").as_posix()
        name = file.stem if file.stem not in named and counts[file.stem, depth[file]] == 1 else within
        group = within.partition("/")[0]
        named[name] = Preset(name, file, group if group in GROUPS else "")
    return dict(sorted(named.items(), key=lambda pair: (not pair[1].is_whole, pair[1].group, _rank(pair[1]))))


def _rank(preset: Preset) -> tuple[bool, int]:
    """Recipes come first, since they need nothing but a pack."""
    return preset.path.parent.name != "recipes", preset.name.count("/")


def find(name: str) -> Preset:
    """The preset of a name.

    Raises:
        UsageError: There is none.
    """
    known = presets()
    if name in known:
        return known[name]
    raise UsageError(f"--preset {name} is not known: {did_you_mean(name, known)}scaled-ig presets lists them")
