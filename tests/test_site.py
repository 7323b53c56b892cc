"""The site: links lead where they lead in the repository, and the reference has everything."""

import sys
from pathlib import Path

import pytest

from scaled_ig import cli
from scaled_ig.commands.training_options import MODEL_KINDS

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs/site"))
import hooks  # noqa: E402 - not a package
import reference  # noqa: E402


@pytest.mark.parametrize(
    ("page", "link", "there"),
    [
        ("README.md", "docs/scale.md", "scale.md"),
        ("README.md", "docs/demo.png", "demo.png"),
        ("README.md", "experiments/README.md", "experiments/README.md"),
        ("README.md", "CITATION.cff", "CITATION.cff.md"),
        ("docs/scale.md", "../README.md", "index.md"),
        ("docs/scale.md", "../benchmarks/scale.py", "benchmarks/scale.py.md"),
        ("docs/data/meshes.md", "../bank.md", "../bank.md"),
        ("docs/data/meshes.md", "../../experiments/stage1.yaml", "../experiments/stage1.yaml.md"),
        ("experiments/README.md", "../docs/data/README.md", "../data/README.md"),
        ("experiments/README.md", "../docs/data", "../data/README.md"),
        ("docs/scale.md", "https://example.org/a.md", "https://example.org/a.md"),
    ],
)
def test_a_link_leads_to_the_same_file(page, link, there):
    assert hooks.relinked(f"[a]({link}), [b]({link}#part)", page) == f"[a]({there}), [b]({there}#part)"


def test_code_is_not_relinked():
    code = "```python\nimages[0](docs/scale.md)\n```"
    assert hooks.relinked(f"{code}\n[a](docs/scale.md)\n{code}", "README.md") == f"{code}\n[a](scale.md)\n{code}"


def test_files_that_pages_link_to_are_pages():
    """By way of another file, too: docs/tutorial.md names a notebook, which names another one."""
    pages = hooks.outside(["docs/tutorial.md"])
    assert {"examples/first_steps.ipynb", "examples/diffusion.ipynb"} <= set(pages)
    assert not [page for page in pages if page.startswith("docs/") or not (ROOT / page).is_file()]
    assert [hooks.repository_path(hooks.site_path(page)) for page in pages] == pages


def test_the_reference_has_every_verb_with_its_options():
    page = reference.verbs_page()
    names = {*cli.VERBS, *(f"bank {action}" for action in cli.BANK_ACTIONS)} - {"bank"}
    sections = dict(section.split("\n", 1) for section in page.split("## scaled-ig ")[1:])
    assert set(sections) == names
    assert "| `--samples_per_pixel` | `int` |" in sections["pack"]
    assert "| `--dry_run, --no_dry_run` | switch | `False` |" in sections["pack"]
    assert "| `--pack` |" in sections["add"]
    assert "configuration.md" in sections["add"]


def test_the_reference_has_every_key():
    page = reference.configuration_page()
    for key in (
        "run_dir",
        "phases.warm_up",
        "adam.beta2",
        "waves.scenes",
        "trainer.devices",
        "scene.autoencoder",
        "data",
    ):
        assert f"| `{key}` |" in page, key
    assert "SUPPRESS" not in page


def test_the_reference_has_every_class_that_is_complete():
    page = reference.classes_page()
    for name in ("TriPlanes", "MicroMacro", "SmallAutoencoder", "InsideHull", "BaselFaces", "WarmUp", "WarmUpCosine"):
        assert f".{name}\n" in page, name
    assert ".LatentFitting\n" not in page
    assert page.count("\n## ") == len(MODEL_KINDS)


def test_help_has_a_place_in_a_table():
    assert reference.words("one\nor ``a|b`` | <c>") == "one or `a|b` \\| &lt;c>"
