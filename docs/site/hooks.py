"""What MkDocs is told besides mkdocs.yml.

The README is the home page, and the reference is written from the code. Pages are read in the repository, too, where
links are relative to the file: a file outside docs/ that a page links to becomes a page at its path in the repository,
so that every link leads somewhere in both places.
"""

from __future__ import annotations

import json
import posixpath
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
HOME = "README.md"
ALWAYS = (HOME, "CONTRIBUTING.md", "CHANGELOG.md")  # pages whether a page links to them or not
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=[)#])")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
HIGHLIGHTED = {
    ".py": "python",
    ".c": "c",
    ".h": "c",
    ".yaml": "yaml",
    ".mk": "make",
    ".sbatch": "bash",
    ".toml": "toml",
}

sys.path.insert(0, str(Path(__file__).parent))
import reference  # noqa: E402 - beside this file


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add pages that are not in docs/."""
    for name, text in reference.pages().items():
        files.append(File.generated(config, name, content=text))
    for name in outside([path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")] + list(ALWAYS)):
        unlisted = InclusionLevel.NOT_IN_NAV  # or in it, where mkdocs.yml says so
        files.append(File.generated(config, site_path(name), content=page_of(name), inclusion=unlisted))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links of a file of the repository into those of the site."""
    return relinked(markdown, repository_path(page.file.src_uri))


def outside(names: list[str]) -> list[str]:
    """Files outside docs/ among these and those that they link to, directly or by one another."""
    seen: dict[str, None] = {}
    todo = list(names)
    while todo:
        name = todo.pop(0)
        if name in seen or not (ROOT / name).is_file():
            continue
        seen[name] = None
        if name.endswith((".md", ".ipynb")):
            todo += [target(name, link) for link in LINK.findall(FENCE.sub("", page_of(name)))]
    return sorted(name for name in seen if not name.startswith("docs/"))


def target(name: str, link: str) -> str:
    """Path in the repository that a link of a file leads to; of a folder, that of its README."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(name), link))
    return f"{path}/README.md" if (ROOT / path / "README.md").is_file() else path


def site_path(name: str) -> str:
    """Path in the site of a file of the repository."""
    if name == HOME:
        return "index.md"
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    return name if name.endswith(".md") else f"{name}.md"


def repository_path(path: str) -> str:
    """Path in the repository of a page of the site."""
    if path == "index.md":
        return HOME
    if (ROOT / "docs" / path).is_file():
        return f"docs/{path}"
    return path if (ROOT / path).is_file() else path.removesuffix(".md")


def relinked(markdown: str, name: str) -> str:
    """Text of a file with the links that it has in the site."""
    start = posixpath.dirname(site_path(name)) or "."

    def there(link: re.Match[str]) -> str:
        path = target(name, link[1])
        return posixpath.relpath(site_path(path), start) if (ROOT / path).is_file() else link[1]

    parts, end = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [LINK.sub(there, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, LINK.sub(there, markdown[end:])])


def page_of(name: str) -> str:
    """A file as a page: Markdown as it is, notebooks cell by cell, all else as a listing."""
    text = (ROOT / name).read_text()
    if name.endswith(".md"):
        return text
    if name.endswith(".ipynb"):
        cells = [(cell["cell_type"] == "code", "".join(cell["source"])) for cell in json.loads(text)["cells"]]
        return "\n\n".join(f"```python\n{source}\n```" if is_code else source for is_code, source in cells)
    language = HIGHLIGHTED.get(Path(name).suffix, "text")
    return f"---\nsearch: {{exclude: true}}\n---\n# {name}\n\n````{language}\n{text.rstrip()}\n````\n"
