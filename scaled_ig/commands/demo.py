"""``scaled-ig demo``: the whole method on this machine, from an empty folder."""

from __future__ import annotations

from contextlib import suppress

from scaled_ig.errors import UsageError

PACK, RUN = "data/demo/pack", "runs/demo"
PATIENCE = 12.0
"""Seconds that a step has to end once it is interrupted."""


def demo() -> int:
    """Draws cars, trains both recipes and a control on them, and writes a page that shows what came out.

    Everything is written below data/demo and runs/demo of the working directory. Every step is a command that works on
    data of your own too, and is shown before it runs. Repeated, it goes on where it was interrupted.

    Examples:
        scaled-ig demo

    Returns:
        Exit code 0, or that of the step that failed.
    """
    import shlex
    import signal
    import subprocess
    import sys

    # -P: a folder of the working directory cannot hide one of the packages.
    program = [sys.executable, "-P", "-c", "from scaled_ig.cli import main; main()"]
    for step in steps():
        print(f"$ {shlex.join(['scaled-ig', *step])}", flush=True)
        with subprocess.Popen([*program, *step]) as running:
            try:
                status = running.wait()
            except KeyboardInterrupt:  # the terminal has sent it to the step, too, which saves what it has
                with suppress(subprocess.TimeoutExpired):
                    running.wait(PATIENCE)
                running.terminate()
                status = running.wait()
        if status == 130:  # the step has said so
            return status
        if status in (-signal.SIGINT, -signal.SIGTERM):  # before it could
            raise KeyboardInterrupt
        if status:
            raise UsageError(f"scaled-ig {step[0]} ended with {status}, see above: scaled-ig demo goes on from there")
    print(f"open {RUN}/report.html")
    return 0


def steps() -> list[list[str]]:
    """Arguments of each command."""

    def fit(run: str, *presets: str) -> list[str]:
        chosen = [word for preset in presets for word in ("--preset", preset)]
        return ["fit", *chosen, "--data.path", PACK, "--run_dir", run, "--resume", "true"]

    return [
        ["synthesize", "cars", "--scenes", "24", "--out", "data/demo/shapenet"],
        ["pack", "shapenet", "data/demo/shapenet", "--out", PACK, "--views", "40"],
        ["check", PACK],
        fit(RUN, "fast"),
        fit(f"{RUN}-plain", "fast", "no_prior"),
        fit(f"{RUN}-latent", "latent"),
        ["report", RUN, "--rgb", f"{RUN}-plain", "--compare", f"latent recipe={RUN}-latent"],
    ]
