"""Opens files of strangers in a child process: they must be refused soon, at little cost, by one sentence."""

import os
import resource
import select
import signal
from collections.abc import Callable
from pathlib import Path

from scaled_ig.errors import UsageError

SECONDS = 5.0
GIB = 2**30


def refusal(work: Callable[[], object]) -> str:
    """What a UsageError says that the work ends with, in a fork of this process that may take 1 GiB more.

    It may take 5 s of the processor, for machines may be busy.

    Fails where it ends otherwise.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        said = "ended well"
        try:
            status = Path("/proc/self/status").read_text()
            data_bytes = 1024 * int(status.partition("VmData:")[2].split()[0])
            resource.setrlimit(resource.RLIMIT_DATA, (data_bytes + GIB, resource.RLIM_INFINITY))
            work()
        except UsageError as error:
            said = f"refused {error}"
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"[:2000]
        finally:
            os.write(writer, said.encode(errors="backslashreplace")[:4000])
            os._exit(0)
    os.close(writer)
    try:
        ready = select.select([reader], [], [], 12 * SECONDS)[0]
        said = os.read(reader, 4096).decode() if ready else "hung"
    finally:
        os.kill(child, signal.SIGKILL)
        _, _, usage = os.wait4(child, 0)
        os.close(reader)
    outcome, _, sentence = said.partition(" ")
    assert outcome == "refused", said or "was killed"
    seconds = usage.ru_utime + usage.ru_stime
    assert seconds < SECONDS, f"{seconds:.1f} s: {said}"
    return sentence


def check_refusal(work: Callable[[], object], name: str) -> None:
    """One printable sentence, not too long, that names the file."""
    sentence = refusal(work)
    assert name in sentence, sentence
    assert sentence.isprintable(), sentence
    assert len(sentence) < 600, sentence
    for word in ("Traceback", "object at 0x"):
        assert word not in sentence, sentence
