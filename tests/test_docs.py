"""The documentation does not rot: links lead somewhere, commands parse, findings are those of the check."""

import ast
import inspect
import re
import shlex
from pathlib import Path

import pytest

from scaled_ig import cli
from scaled_ig.commands import pack as packing
from scaled_ig.commands.fit import TrainingCLI
from scaled_ig.errors import UsageError
from scaled_ig.parsing import VerbParser

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "experiments/README.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
CHECKED = ("cameras", "masks", "scene", "shard", "index", "check")
CHECKS = [ROOT / "data_modules/checking" / f"{name}.py" for name in CHECKED]
LARGEST_PICTURE, ALL_PICTURES = 150_000, 800_000


def fenced(text: str) -> list[tuple[str, str]]:
    """Language and content of the fenced blocks of a page."""
    return re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    """Command lines of ``scaled-ig`` in blocks that name no other language; output of programs stands in ``text``."""
    blocks = "".join(block for language, block in fenced(text) if language in ("", "sh", "bash", "console"))
    joined = re.sub(r"\\\n\s*", " ", blocks)
    launcher = r"(?:\$ )?(?:[A-Z_]+=\S+ )*(?:torchrun .*--no-python )?"
    return re.findall(rf"^{launcher}(scaled-ig .*)$", joined, re.MULTILINE)


def broken_links(page: Path) -> list[str]:
    """Relative links and pictures of a page that lead nowhere."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
    local = [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:", target)]
    return [target for target in local if target and not (page.parent / target).exists()]


@pytest.fixture
def parse(tmp_path, monkeypatch, capsys):
    """Gives a command line to the parser of the program, which ends it or raises if it does not understand."""
    monkeypatch.chdir(ROOT)  # configurations are named from here

    def parsed(line: str) -> None:
        name, function, arguments = cli.called(shlex.split(line, comments=True)[1:]) or pytest.fail(f"no verb: {line}")
        if "training" in inspect.signature(function).parameters:
            if name != "fit":  # a run that has the configuration of a recipe
                parsed("scaled-ig fit --config experiments/recipes/latent.yaml")
                (tmp_path / "config.yaml").write_text(capsys.readouterr().out)
                arguments[arguments.index("--run") + 1 if "--run" in arguments else 0] = str(tmp_path)
            with pytest.raises(SystemExit) as left:
                TrainingCLI([*arguments, "--print_config"], function)
            assert not left.value.code
            return
        config = VerbParser(function).parse_args(arguments)
        if name == "pack":
            known = {name for form in packing.FORMATS.values() for name in form.options} | set(packing.RENDER_OPTIONS)
            chosen = {name: config[name] for name in known if config[name] not in (None, False)}
            packing._refuse_idle_options(config.source, chosen)

    return parsed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    assert not broken_links(page)


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("[there](page.md#part) ![not](gone.png) [far](https://example.org) `[code](x)`\n")
    assert broken_links(page) == ["gone.png", "x"]


COMMANDS = list(dict.fromkeys(line for page in PAGES for line in commands(page.read_text())))


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_parse(line, parse):
    parse(line)


def test_pages_have_commands():
    assert len(COMMANDS) > 20
    every = {line.split()[1] for line in COMMANDS}
    assert {"pack", "check", "fit", "report"} <= every


@pytest.mark.parametrize(
    "line",
    [
        "scaled-ig pack meshes FOLDER",
        "scaled-ig pack nothing FOLDER --out PACK",
        "scaled-ig pack meshes FOLDER --out PACK --colour red",
        "scaled-ig pack srn FOLDER --out PACK --up z",
        "scaled-ig pack srn FOLDER --out PACK --camera_convention blender",
        "scaled-ig look PACK",
        "scaled-ig fit --config experiments/recipes/latent.yaml --data.scene '{range: [0, 5]}'",
        "scaled-ig add --run RUN --pack PACK --data.scene '{range: [0, 5]}'",
        "scaled-ig bank refit RUN --scenes a --colour red",
    ],
)
def test_a_wrong_command_is_found(line, parse):
    with pytest.raises((UsageError, pytest.fail.Exception)):
        parse(line)


def test_verbs_named_in_text_exist():
    for page in PAGES:
        for verb in re.findall(r"`scaled-ig ([a-z]+)", page.read_text()):
            assert verb in cli.VERBS, f"{page.name} names scaled-ig {verb}"


def test_python_in_pages_compiles():
    blocks = [block for page in PAGES for language, block in fenced(page.read_text()) if language == "python"]
    assert blocks
    for block in blocks:
        compile(block, "page", "exec")


def messages(path: Path) -> list[str]:
    """Pieces of the sentences that a module of the check can print."""
    tree = ast.parse(path.read_text())
    told = [node for node in ast.walk(tree) if isinstance(node, ast.Raise)]  # those are errors of the caller
    silent = {child for node in told for child in ast.walk(node)}
    silent |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and node not in silent]
    pieces = [piece.strip(" ,:(") for text in texts if isinstance(text, str) for piece in text.split("\n")]
    return [piece for piece in pieces if len(piece) > 9 and " " in piece]


def test_every_finding_is_explained():
    page = " ".join((ROOT / "docs/data/findings.md").read_text().replace("\\|", "|").split())
    said = [piece for path in CHECKS for piece in messages(path)]
    assert len(said) > 40
    assert not [piece for piece in said if piece not in page]


def test_findings_that_are_explained_exist():
    """The longest piece of each quotation in the tables without names and numbers is one of the program's."""
    sources = " ".join(path.read_text() for path in (ROOT / "data_modules").rglob("*.py"))
    spoken = re.sub(r"\s+", " ", re.sub(r"\"\s+f?\"", "", sources)).replace("{layout.OFFSET}", "scene/offset")
    rows = [line for line in (ROOT / "docs/data/findings.md").read_text().splitlines() if line.startswith("| `")]
    cells = [re.split(r"(?<!\\) \| ", row)[0].replace("\\|", "|") for row in rows]
    quoted = [quote for cell in cells for quote in re.findall(r"`([^`]+)`", cell) if not quote.startswith("--")]
    names = r"…|-?[\d.]+|(?<=to )(?:train|test) on|pack\.json"
    pieces = [max(re.split(names, quote), key=len).strip(" ,:()") for quote in quoted]
    assert len(pieces) > 40
    assert not [piece for piece in pieces if piece not in spoken]


def test_pictures_are_small():
    sizes = {path.name: path.stat().st_size for path in (ROOT / "docs/data").glob("*.png")}
    assert sizes
    assert max(sizes.values()) <= LARGEST_PICTURE
    assert sum(sizes.values()) <= ALL_PICTURES
    pages = "".join(page.read_text() for page in PAGES)
    assert not [name for name in sizes if f"({name})" not in pages]
