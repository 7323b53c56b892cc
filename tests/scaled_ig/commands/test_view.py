"""What cannot be viewed is said in one sentence."""

import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from scaled_ig.commands.view import view
from scaled_ig.errors import UsageError

KEPT = Path(__file__).parents[2] / "kept"
PACK, RUN = KEPT / "pack", KEPT / "run"


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no run with a bank, no bank and no pack"):
        view(str(tmp_path))


def test_a_pack_has_no_pack():
    with pytest.raises(UsageError, match="is a pack itself"):
        view(str(PACK), pack="elsewhere")


def test_a_port_that_is_taken_is_refused():
    pytest.importorskip("viser", reason="the viewer's extra is not installed")
    with socket.socket() as other:
        other.bind(("localhost", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"--port {port} is in use by another program"):
            view(str(RUN), port=port)


def test_a_host_that_is_none_is_refused():
    pytest.importorskip("viser", reason="the viewer's extra is not installed")
    with pytest.raises(UsageError, match=r"--host no\.such\.host\.invalid is no address"):
        view(str(RUN), host="no.such.host.invalid")


def test_without_viser_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(UsageError, match=r"pip install 'scaled-ig\[viewer\]'"):
        view(str(RUN))


def test_ports_have_a_range():
    with pytest.raises(UsageError, match="--port 70000"):
        view(str(RUN), port=70000)


@pytest.mark.slow("a program that begins cold")
def test_it_serves_a_page_until_it_is_interrupted():
    pytest.importorskip("viser", reason="the viewer's extra is not installed")
    words = [sys.executable, "-m", "scaled_ig", "view", str(PACK), "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        address = next(word for word in line.split() if word.startswith("http"))
        with urlopen(address) as answer:
            assert b"<html" in answer.read()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "interrupted\n")
