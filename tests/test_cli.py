"""The program: what it imports, and what it says to a mistake."""

import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scaled_ig import cli
from scaled_ig.cli import BANK_ACTIONS, VERBS, main
from scaled_ig.parsing import VerbParser
from tests.conftest import TINY_RUN
from tests.test_docs import parse  # noqa: F401 - a fixture

WITHOUT_LIGHTNING = """
import contextlib, io, sys
from scaled_ig.cli import BANK_ACTIONS, VERBS, main
pack, files = sys.argv[1], sys.argv[-1] + "-files"
calls = [["--help"], ["--version"], *([verb, "--help"] for verb in VERBS if verb not in ("fit", "add"))]
calls += [*(["bank", action, "--help"] for action in BANK_ACTIONS if action != "refit"), ["check", *sys.argv[1:]]]
calls += [["export", pack, "--out", files], ["pack", "transforms", files, "--out", files + "-pack", "--processes", "1"]]
for arguments in calls:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            main(arguments)
    except SystemExit as left:
        slow = ["lightning", "pytorch_lightning", "torchmetrics", "torchvision", *["torch"] * ("--help" in arguments)]
        loaded = [name for name in sys.modules if name.split(".")[0] in slow]
        if left.code or loaded:
            sys.exit(f"scaled-ig {arguments} left with {left.code} and loaded {loaded[:3]}")
"""


def test_help_and_tools_do_without_lightning(tiny_pack, tmp_path):
    arguments = [str(tiny_pack), "--sheet", str(tmp_path / "sheet.png")]
    done = subprocess.run([sys.executable, "-c", WITHOUT_LIGHTNING, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def leave(capsys, *arguments) -> tuple[int, str]:
    """Exit status and what was said."""
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return left.value.code, captured.out + captured.err


def test_help_lists_every_verb(capsys):
    status, said = leave(capsys, "--help")
    assert status == 0
    for verb in VERBS:
        assert verb in said


NAMES = [*(verb for verb in VERBS if verb != "bank"), *(f"bank {action}" for action in BANK_ACTIONS)]


@pytest.mark.parametrize("name", NAMES)
def test_every_help_has_examples_that_are_understood(name, capsys, parse, tmp_path):  # noqa: F811
    status, said = leave(capsys, *name.split(), "--help")
    assert status == 0
    assert said.count("Examples:") == 1
    assert "Range(" not in said
    (tmp_path / "mine.yaml").write_text("run_dir: x\n")
    examples = re.findall(r"^    (scaled-ig .*)$", said, re.MULTILINE)
    assert examples
    for line in examples:
        assert line.startswith(f"scaled-ig {name}")
        parse(line.replace("mine.yaml", str(tmp_path / "mine.yaml")))
        capsys.readouterr()  # the next one reads what it prints


def test_the_help_of_fit_begins_with_what_it_needs_and_ends_with_the_library(capsys):
    _, said = leave(capsys, "fit", "--help")
    places = [
        said.index(text) for text in ("--preset NAME  ", "--run_dir RUN_DIR", "--phases.joint ", "--trainer.max_epochs")
    ]
    assert places == sorted(places)
    assert said.index("--scene.kernel") < said.index("Lightning's Trainer")


def test_a_folder_that_hides_a_package_is_named(tmp_path):
    """As with ``python -m``, which puts the working directory before all others."""
    (tmp_path / "data_modules").mkdir()
    (tmp_path / "data_modules" / "__init__.py").touch()
    code = "import sys; sys.path.insert(0, sys.argv[1]); from scaled_ig.cli import main; main(['presets'])"
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path}/data_modules hides the package data_modules of scaled-ig")


def test_lpips_is_looked_for_once_all_else_is_in_order(capsys, tiny_config, tmp_path):
    call = ["fit", "--config", tiny_config, "--run_dir", tmp_path / "run", "--lpips", "require"]
    call += ["--lpips_weights", tmp_path / "gone.pth"]
    status, said = leave(capsys, *call, "--data.path", tmp_path / "nowhere")
    assert status == 2
    assert said.startswith(f"error: {tmp_path / 'nowhere'} is no finished pack")
    status, said = leave(capsys, *call)
    assert status == 2
    assert "gone.pth" in said
    assert not list((tmp_path / "run").rglob("*.*"))


def test_an_interrupted_demo_says_so_once(tmp_path):
    """A terminal sends the signal to the demo and to the step that it runs."""
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # whoever started the tests
    program = [sys.executable, "-c", f"{listen}; from scaled_ig.cli import main; main(['demo'])"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(program, cwd=tmp_path, start_new_session=True, **streams) as demo:
        while not any((tmp_path / "data").rglob("*.obj")):
            assert demo.poll() is None
            time.sleep(0.01)
        os.killpg(demo.pid, signal.SIGINT)
        said, _ = demo.communicate()
    assert demo.returncode == 130
    assert re.findall(".*interrupted.*", said) == ["interrupted; the same call goes on"]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_on_a_terminal_alone_is_said_that_lightning_loads(capsys, monkeypatch, tmp_path, is_terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path)])
    said = capsys.readouterr().err.splitlines()
    assert [line.startswith("error: ") for line in said] == [False, True][not is_terminal :]
    assert ("Lightning" in said[0]) == is_terminal


@pytest.mark.parametrize("arguments", [["fly"], ["fly", "--config", "a.yaml"], []])
def test_an_unknown_verb_is_a_mistake(capsys, arguments):
    status, said = leave(capsys, *arguments)
    assert status == 2
    assert "check" in said  # one of the first verbs


def test_an_unknown_action_of_the_bank_is_answered_with_all(capsys):
    status, said = leave(capsys, "bank", "reft", "RUN")
    assert status == 2
    *others, last = BANK_ACTIONS
    assert f"error: action reft is not known: did you mean refit? It must be {', '.join(others)} or {last}" in said


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ("chekc PACK", "verb chekc is not known: did you mean check? It must be doctor, demo, "),
        ("fit", "nothing says what to train: give --preset NAME (scaled-ig presets lists them) or --config"),
        ("bank", "bank needs one of info, verify, remove, merge, refit, export, read: scaled-ig bank --help"),
        ("pack meshes", "the following arguments are required: path, out"),
        ("pack mesh X --out Y", "source mesh is not known: did you mean meshes? It must be meshes, shapenet, "),
        ("pack xyz X --out Y", "source xyz must be meshes, shapenet, basel, "),
        ("bank export B --format meshh --out X", "format meshh is not known: did you mean mesh? It must be npz, "),
        ("--print_completion bahs", "print_completion bahs is not known: did you mean bash? It must be bash or zsh"),
        ("pack meshes X --out Y --yaw nan", "yaw nan must be a number or null"),
        ("pack meshes X --out Y --veiws 3", "--veiws is not known: did you mean --views?"),
        ("pack meshes X --out Y --samples-per-pixl 3", "--samples_per_pixl is not known: did you mean --samples_per_"),
        ("pack meshes X --out Y --normalise", "--normalise is not known: did you mean --normalize?"),
        ("check PACK --fix-drop maybe", "unrecognized arguments: maybe"),
        ("render BANK --scenes", "argument --scenes: expected one argument"),
        ("tables --num_scenes 5", "the following arguments are required: folders"),
    ],
)
def test_a_mistake_in_the_call_of_a_tool_is_one_sentence(capsys, call, sentence):
    status, said = leave(capsys, *call.split())
    assert status == 2
    assert said.startswith(f"error: {sentence}")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("given", [["--compare", "a=runs/b"], ["--compare=a=runs/b"], ["--compare", '["a=runs/b"]']])
def test_a_list_of_one_needs_no_brackets(given):
    from scaled_ig.commands.report import report

    assert VerbParser(report).parse_args(["runs/mine", *given]).compare == ["a=runs/b"]


@pytest.mark.parametrize("dry_run", ["--dry-run", "--dry_run"])
@pytest.mark.parametrize("first", [True, False])
def test_dashes_and_bare_flags_are_understood(capsys, monkeypatch, tmp_path, dry_run, first):
    heard = {}
    monkeypatch.setattr(
        "data_modules.packing.trial.try_scenes", lambda *given: heard.update(tried=given) or leave_early()
    )
    (tmp_path / "box.ply").write_text("a mesh")
    options = ["--samples-per-pixel", "9", "--memory-per-process=3", "--azimuth", "[-5,5]", "--strict", "--append"]
    order = [dry_run, *options] if first else [*options, dry_run]
    called = ["pack", *order, "meshes", tmp_path, "--out", tmp_path / "a-b_c"]
    status, _ = leave(capsys, *called)
    assert status == 7
    source, render, workers = heard["tried"]
    assert (source.path, render.samples_per_pixel, render.azimuth, workers.memory_gib) == (tmp_path, 9, (-5, 5), 3)


def leave_early():
    raise SystemExit(7)


@pytest.mark.parametrize(
    ("given", "heard"),
    [
        (["--append"], {"append": True}),
        (["--no_append", "--strict"], {"append": False, "strict": True}),
        (["--append", "--no-append"], {"append": False, "strict": False}),
        ([], {"append": False, "strict": False}),
    ],
)
def test_flags_reach_the_packer(capsys, monkeypatch, tmp_path, given, heard):
    (tmp_path / "box.ply").write_text("a mesh")
    passed = {}
    monkeypatch.setattr(
        "data_modules.packing.pack.write_pack", lambda *_, **options: passed.update(options) or leave_early()
    )
    assert leave(capsys, "pack", "meshes", tmp_path, "--out", tmp_path / "out", *given)[0] == 7
    assert heard.items() <= passed.items()


def test_fit_takes_dashes_too(capsys, tiny_config, tmp_path):
    options = ("--run-dir", tmp_path / "run-a", "--eval-every-n-steps=2", "--data.batch-size", "all")
    status, said = leave(capsys, "fit", "--config", tiny_config, *options)
    assert status == 2
    assert said == "error: data.batch_size all must be a whole number\n"


@pytest.mark.parametrize(
    ("right", "wrong", "unknown", "near"),
    [
        ("rgb_alignment: {module: RgbAlignment, max_steps: 12}", "rgb_alignment: {module: RgbAlignment, max_step: 12}",
         "phases.rgb_alignment.max_step", "phases.rgb_alignment.max_steps"),
        ("rgb_alignment: {module: RgbAlignment,", "rgb_alignment: {module: {class_path: RgbAlignment, init_args: "
         "{learning_rates: {mikro: 0.1}}},", "mikro", "micro"),
        ("  rgb_alignment:", "  rgb_alinment:", "phases.rgb_alinment.module", "phases.rgb_alignment.module"),
        ("num_bases: 3", "nun_bases: 3", "scene.representation.nun_bases", "scene.representation.num_bases"),
        ("stage2_scenes: 4", "stage2_scene: 4", "data.stage2_scene", "data.stage2_scenes"),
    ],
)  # fmt: skip
def test_a_slip_stops_the_program_before_its_first_step(capsys, tiny_config, tmp_path, right, wrong, unknown, near):
    text = tiny_config.read_text()
    assert right in text
    (tmp_path / "slip.yaml").write_text(text.replace(right, wrong))
    status, said = leave(capsys, "fit", "--config", tmp_path / "slip.yaml", "--run_dir", tmp_path / "run")
    assert status == 2
    assert said.startswith(f"error: {unknown} is not known: did you mean {near}?")
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("option", "near"),
    [
        ("--platau.patience", "--plateau.patience"),
        ("--phases.warm_up.max_step", "--phases.warm_up.max_steps"),
        ("--phases.warm_upp.max_steps", "--phases.warm_up.max_steps"),
        ("--phases.joint.module.learning_rates.mikro", "--phases.joint.module.learning_rates.micro"),
        ("--scene.representation.nun_bases", "--scene.representation.num_bases"),
        ("--trainer.devces", "--trainer.devices"),
        ("--data.batch_sze", "--data.batch_size"),
    ],
)
def test_a_slip_in_an_option_is_answered_with_the_nearest_one(capsys, tiny_config, tmp_path, option, near):
    for spelled in (option, option.replace("module.", "module.init_args.").replace("data.", "data.init_args.")):
        status, said = leave(capsys, "fit", "--config", tiny_config, "--run_dir", tmp_path / "run", spelled, 3)
        assert status == 2
        assert f"{option[2:]} is not known: did you mean " in said
        assert f"{near[2:]}?" in said


@pytest.mark.parametrize(
    ("option", "value", "said_of_it"),
    [
        ("--adam.clock", "sundial", "adam.clock sundial must be exact_dense or per_scene"),
        (
            "--phases.rgb_alignment.max_steps",
            "many",
            "phases.rgb_alignment.max_steps many must be a whole number or null",
        ),
        ("--data.batch_size", "all", "data.batch_size all must be a whole number"),
        ("--data.batch_size", "all --lpips off", "data.batch_size all must be a whole number"),
        ("--data.stage1_scenes", "1.5", "data.stage1_scenes 1.5 must be a whole number"),
        ("--data.scenes.range", "0,x", "data.scenes.range 0,x must be a list such as [1, 2] or null"),
        (
            "--phases.joint.module.learning_rates.micro",
            "x",
            "phases.joint.module.learning_rates.micro x must be a number",
        ),
        ("--scene.sampling", "InsideBal", "scene.sampling: InsideBal is no class: did you mean InsideBall? give "),
        ("--hand_over.bases", "7", "hand_over.bases 7 must be true or false"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(capsys, tiny_config, tmp_path, option, value, said_of_it):
    status, said = leave(capsys, "fit", "--config", tiny_config, "--run_dir", tmp_path / "run", option, *value.split())
    assert status == 2
    assert said.startswith(f"error: {said_of_it}")
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def without(text: str, *phases: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.strip().startswith(phases))


def test_stage_2_alone_needs_a_stage_1(capsys, tiny_config, tmp_path):
    stage2 = without(tiny_config.read_text(), "autoencoder: {module", "warm_up:", "joint:")
    (tmp_path / "stage2.yaml").write_text(stage2)
    status, said = leave(capsys, "fit", "--config", tmp_path / "stage2.yaml", "--run_dir", tmp_path / "run")
    assert status == 2
    assert "--init_from RUN" in said
    assert "scaled-ig fit --config experiments/stage1.yaml --run_dir RUN" in said
    options = ("--run_dir", tmp_path / "run", "--init_from", tmp_path / "nowhere")
    status, said = leave(capsys, "fit", "--config", tmp_path / "stage2.yaml", *options)
    assert status == 2
    assert f"{tmp_path / 'nowhere'} is no run with a finished stage 1" in said
    assert not (tmp_path / "run").exists()


def test_scenes_of_pixels_need_a_stage_1_where_they_take_something_from_it(capsys, tiny_config, tmp_path):
    stage2 = without(tiny_config.read_text(), "autoencoder: {module", "warm_up:", "joint:", "rgb_alignment:")
    (tmp_path / "stage2.yaml").write_text(stage2)
    rgb = ("fit", "--config", tmp_path / "stage2.yaml", "--scene.autoencoder", "IdentityAutoencoder")
    gone = ("--data.init_args.path", tmp_path / "no-pack")
    assert "--init_from RUN" in leave(capsys, *rgb, *gone)[1]
    for independent in (
        ("--scene.own_heads", "true"),
        ("--hand_over", "{bases: false, head: false, scene_mean: false}"),
    ):
        assert "no-pack" in leave(capsys, *rgb, *gone, *independent)[1], "the next mistake"


def test_several_folders_may_stand_before_and_after_options(capsys, tmp_path):
    for call in (("A", "B", "--num_scenes", "5"), ("--num_scenes=5", "A", "B"), ("--num_scenes", "5", "A", "B")):
        status, said = leave(capsys, "tables", *call)
        assert status == 2
        assert "A holds no finished run" in said


def test_a_place_that_cannot_be_written_is_one_sentence(capsys, tiny_run, tmp_path):
    (tmp_path / "file").write_text("")
    for call in (("tables", tiny_run.parent, "--out", tmp_path), ("costs", tiny_run, "--out", tmp_path / "file" / "x")):
        status, said = leave(capsys, *call)
        assert status == 2
        assert said.splitlines()[-1].startswith(f"error: {tmp_path}")
        assert "Traceback" not in said


@pytest.mark.parametrize(
    ("error", "said_of_it"),
    [
        (OSError(errno.ENOSPC, "No space left", "runs/a/costs.json.12.part"), "runs/a/costs.json: the disk is full"),
        (OSError(errno.EROFS, "Read-only", "a.3.part", None, "b/c.csv"), "b/c.csv: the file system is read-only"),
        (OSError(errno.EDQUOT, "Quota"), "the quota is used up: free space"),
        (OSError(errno.EMFILE, "Too many", "scenes.json"), "scenes.json: too many files are open: raise the limit"),
        (OSError(errno.EXDEV, "Cross-device link", b"a"), "a: Cross-device link: look at it"),
        (
            OSError("of a worker\nTraceback (most recent call last):\nOSError: no shards\n"),
            "OSError: no shards: look at",
        ),
    ],
)
def test_an_error_of_the_system_is_one_sentence(capsys, monkeypatch, error, said_of_it):
    def called(arguments):
        raise error

    monkeypatch.setattr(cli, "called", called)
    status, said = leave(capsys, "bank", "info", "x")
    assert status == 2
    (line,) = said.splitlines()
    assert line.startswith(f"error: {said_of_it}")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.slow("an interpreter")
def test_output_that_finds_no_room_is_one_sentence(tiny_run):
    with Path("/dev/full").open("w") as full:
        code = f"from scaled_ig.cli import main; main(['bank', 'info', {str(tiny_run)!r}])"
        call = [sys.executable, "-c", code]
        done = subprocess.run(call, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line == "error: the disk is full: free space, then call again"


def test_a_missing_pack_says_how_to_make_one(capsys, tiny_config, tmp_path):
    options = ("--run_dir", tmp_path / "run", "--data.init_args.path", tmp_path / "no-pack")
    status, said = leave(capsys, "fit", "--config", tiny_config, *options)
    assert status == 2
    assert str(tmp_path / "no-pack") in said
    assert "scaled-ig synthesize cars" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "options",
    [
        ("--data.init_args.views_per_scene", 3),
        ("--phases.joint.views_per_scene", 3),
        ("--data.init_args.stage2_scenes", 5),
        ("--scene.resolution", 30),
        ("--lpips", "require"),
        ("--lpips", "yes"),
    ],
)
def test_what_cannot_be_trained_is_said_before_the_first_step(capsys, monkeypatch, tiny_config, tmp_path, options):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    status, _ = leave(capsys, "fit", "--config", tiny_config, "--run_dir", tmp_path / "run", *options)
    assert status == 2
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_no_phase_is_a_mistake(capsys, tiny_config, tmp_path):
    text = tiny_config.read_text()
    (tmp_path / "none.yaml").write_text(text[: text.index("phases:")])
    status, said = leave(capsys, "fit", "--config", tmp_path / "none.yaml", "--run_dir", tmp_path / "run")
    assert status == 2
    assert "has no phase" in said


def test_a_finished_run_is_not_trained_over(capsys, tiny_config, tiny_run):
    status, said = leave(capsys, "fit", "--config", tiny_config, "--run_dir", tiny_run)
    assert status == 2
    assert "already holds checkpoints: give --resume true or another --run_dir" in said


def test_an_argument_that_is_required_is_named(capsys, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(TINY_RUN)
    status, said = leave(capsys, "fit", "--config", path, "--run_dir", tmp_path / "run")
    assert (status, said.strip()) == (2, "error: data.path must be given: add --data.path")
