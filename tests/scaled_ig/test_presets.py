"""Presets are the files of ``experiments/``, whatever folder one stands in."""

import pytest
import yaml

from scaled_ig import presets
from scaled_ig.cli import main
from scaled_ig.commands import demo
from scaled_ig.errors import UsageError
from tests.test_docs import parse  # noqa: F401 - a fixture


def printed(capsys, *arguments) -> dict:
    with pytest.raises(SystemExit) as left:
        main(["fit", *arguments, "--print_config"])
    captured = capsys.readouterr()
    assert not left.value.code, captured.err[-2000:]
    return yaml.safe_load(captured.out)


def test_every_file_has_a_short_name_and_says_what_it_is():
    known = presets.presets()
    assert {preset.path for preset in known.values()} == set(presets.folder().rglob("*.yaml"))
    for name, preset in known.items():
        assert preset.path.with_suffix("").as_posix().endswith(name)
        assert preset.summary
    assert {name for name, preset in known.items() if preset.is_whole} == {
        "quickstart", "fast", "latent", "stage1", "stage2", "faces/stage1", "faces/stage2"
    }  # fmt: skip


def test_of_files_that_share_a_name_the_outer_has_it():
    known = presets.presets()
    assert known["triplanes"].path == presets.folder() / "baselines/triplanes.yaml"
    assert known["baselines/demo/triplanes"].path == presets.folder() / "baselines/demo/triplanes.yaml"
    assert "rgb_rays" not in known, "two folders have one, and neither lies higher"


def test_a_preset_is_its_file_and_the_order_counts(capsys, tmp_path, monkeypatch):
    """Files that a preset names are found from any folder; a group of keys is the value of its key."""
    monkeypatch.chdir(tmp_path)
    files = presets.folder()
    (tmp_path / "mine.yaml").write_text("hand_over: {bases: true}\n")
    mine = ("--config", "mine.yaml", "--trainer.max_epochs", "7", "--run_dir=x")
    given = ("--preset", "stage2", "--preset=official_code_stage2", "--preset", "one_gpu", *mine)
    same = ("--config", f"{files}/stage2.yaml", "--config", f"{files}/presets/official_code_stage2.yaml")
    config = printed(capsys, *given)
    assert config == printed(capsys, *same, "--trainer", f"{files}/trainer/one_gpu.yaml", *mine)
    assert (config["hand_over"]["bases"], config["hand_over"]["head"]) == (True, False)
    assert (config["trainer"]["accelerator"], config["run_dir"]) == ("gpu", "x")
    assert "preset" not in config


def test_an_unknown_preset_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match=r"--preset fsat is not known: did you mean fast\? scaled-ig presets lists"):
        presets.find("fsat")


def test_the_list_names_all(capsys):
    with pytest.raises(SystemExit) as left:
        main(["presets"])
    assert left.value.code == 0
    said = capsys.readouterr().out
    for preset in presets.presets().values():
        assert preset.name in said
        assert preset.summary in said


def test_the_demo_is_made_of_commands_that_are_understood(parse):  # noqa: F811
    import shlex

    for step in demo.steps():
        parse(shlex.join(["scaled-ig", *step]))
