"""The documentation does not rot: links lead somewhere, commands parse, findings are those of the check."""

import ast
import importlib.util
import inspect
import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest
from jsonargparse import ArgumentError, auto_cli, capture_parser

import scaled_ig
from scaled_ig import cli
from scaled_ig.commands import pack as packing
from scaled_ig.commands.training_cli import TrainingCLI
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


def lines(text: str) -> list[str]:
    """Lines of a shell in blocks that name no other language; output of programs stands in ``text``."""
    blocks = "".join(block for language, block in fenced(text) if language in ("", "sh", "bash", "console"))
    joined = re.sub(r"\\\n\s*", " ", blocks)
    return [
        line for line in (line.strip().removeprefix("$ ") for line in joined.splitlines()) if line[:1] not in ("", "#")
    ]


def commands(text: str) -> list[str]:
    """Command lines of ``scaled-ig`` in blocks."""
    launcher = r"(?:[A-Z_]+=\S+ )*(?:torchrun .*--no-python )?"
    return [command[1] for line in lines(text) if (command := re.match(rf"{launcher}(scaled-ig .*)$", line))]


def other_commands(text: str) -> list[str]:
    """Commands of other programs in blocks, without the settings before them."""
    parts = [part.strip() for line in lines(text) for part in re.sub(r"\s+#.*", "", line).split("&&")]
    return [
        re.sub(r"^(?:[A-Z_]+=\S+ )+", "", part) for part in parts if "scaled-ig " not in part or " install " in part
    ]


def mentions(text: str) -> list[str]:
    """What the text calls ``scaled-ig VERB ...``: some are whole, others name an option or two."""
    outside = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [line for line in re.findall(r"`(scaled-ig (?!VERB)[^`\n]+)`", outside) if "…" not in line]


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
                config = capsys.readouterr().out.replace(
                    "\nview: null\n", "\n"
                )  # an option of the verb, which runs do not keep
                (tmp_path / "config.yaml").write_text(config)
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


def wrong_in_mention(line: str) -> str:
    """What a mention says that the program does not know."""
    words = shlex.split(line)[1:]
    if (words[0] in cli.VERBS and len(words) == 1) or words[0].startswith("-"):
        return ""
    command = cli.called(words)
    if command is None:
        return words[0]
    _, function, rest = command
    options = {word.partition("=")[0].replace("-", "_").replace("__", "--", 1) for word in rest if word[:2] == "--"}
    if "training" in inspect.signature(function).parameters:
        parameters = {f"--{parameter}" for parameter in inspect.signature(function).parameters}
        known = parameters | {f"--{name}" for name in ("config", "preset", "resume", "run_dir", "init_from", "help")}
        return ", ".join(option for option in options - known if "." not in option)
    return ", ".join(options - set(VerbParser(function)._option_string_actions))


MENTIONS = list(dict.fromkeys(line for page in PAGES for line in mentions(page.read_text())))


@pytest.mark.parametrize("line", MENTIONS)
def test_what_the_text_names_exists(line):
    assert not wrong_in_mention(line)


EXTRAS = r"(?:scaled-ig|\.)\[([\w,]+)\]"


def wrong_in_other(line: str) -> str:
    """What a command of another program names that is not there."""
    program, *words = shlex.split(line)
    program = program.removeprefix(".venv/bin/")
    if program == "make":
        rules = "".join(path.read_text() for path in (ROOT / "Makefile", *(ROOT / "experiments").glob("*.mk")))
        return ", ".join(word for word in words if "=" not in word and not re.search(rf"^{word}.*:", rules, re.M))
    if program == "pip" or words[:2] == ["-m", "pip"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        asked = re.findall(EXTRAS, line)
        return ", ".join({extra for group in asked for extra in group.split(",")} - set(extras))
    if program in ("python", "python3") and words[:1] == ["-m"]:
        return "" if importlib.util.find_spec(words[1]) else words[1]
    if program == "python":
        return wrong_in_example(*words)
    if program == "sbatch" or program.startswith("."):
        files = [word for word in (program, *words) if "/" in word and not word.startswith("runs/")]
        return ", ".join(file for file in files if not (ROOT / file).exists())
    return "" if program in ("source", "cp", "cd", "mkdir", "unzip", "tensorboard", "wandb") else program


def test_extras_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = {extra for page in PAGES for group in re.findall(EXTRAS, page.read_text()) for extra in group.split(",")}
    assert asked
    assert asked <= set(extras)


def wrong_in_example(script: str, *arguments: str) -> str:
    """What an example is told that it does not understand."""
    if not (ROOT / script).is_file():
        return script
    spec = importlib.util.spec_from_file_location("example", ROOT / script)
    sys.modules["example"] = module = importlib.util.module_from_spec(spec)  # where dataclasses look for it
    spec.loader.exec_module(module)
    parser = capture_parser(lambda: auto_cli(getattr(module, Path(script).stem), args=[], exit_on_error=False))
    try:
        parser.parse_args(list(arguments))
    except ArgumentError as error:
        return str(error)
    return ""


OTHERS = list(dict.fromkeys(line for page in PAGES for line in other_commands(page.read_text())))


@pytest.mark.parametrize("line", OTHERS)
def test_commands_of_other_programs_name_what_is_there(line):
    assert not wrong_in_other(line)


@pytest.mark.parametrize(
    "line",
    [
        "make demmo",
        "pip install 'scaled-ig[viwer]'",
        "python -m benchmarks.nothing",
        "python examples/nothing.py",
        "python examples/diffusion.py RUN --stepps 3",
        "rm -rf runs",
    ],
)
def test_a_wrong_command_of_another_program_is_found(line):
    assert wrong_in_other(line)


@pytest.mark.parametrize(
    "line", ["scaled-ig look", "scaled-ig bank look", "scaled-ig pack meshes --colour red", "scaled-ig fit --colour"]
)
def test_a_wrong_mention_is_found(line):
    assert wrong_in_mention(line)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= 1200


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


PYTHON = [block for page in PAGES for language, block in fenced(page.read_text()) if language == "python"]


def wrong_in_python(block: str) -> list[str]:
    """Names of the project that a piece of Python imports or reads and that do not exist; it must be Python."""
    tree, wrong = ast.parse(block), []
    ours = ("scaled_ig", "data_modules", "benchmarks", "tests")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names if alias.name.split(".")[0] in ours]
            wrong += [name for name in modules if importlib.util.find_spec(name) is None]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ours:
            home = importlib.import_module(node.module)
            wrong += [alias.name for alias in node.names if not hasattr(home, alias.name)]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "scaled_ig":
            wrong += [] if hasattr(scaled_ig, node.attr) else [node.attr]
    return wrong


@pytest.mark.parametrize("block", PYTHON, ids=range(len(PYTHON)))
def test_python_in_pages_names_what_is_there(block):
    assert not wrong_in_python(block)


def test_wrong_python_is_found():
    assert wrong_in_python("import scaled_ig\nscaled_ig.opened()\nfrom scaled_ig.cameras import orbits\n") == [
        "orbits",
        "opened",
    ]


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
