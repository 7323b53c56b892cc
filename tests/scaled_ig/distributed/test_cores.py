"""How many cores there are to use, on machines that are folders of what Linux says."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scaled_ig.distributed import cores
from scaled_ig.distributed.cores import Moment, idle_cores, processor_name, usable_cores, usable_cpus

OWN = 7.0  # CPU seconds of this process


def machine(folder: Path, allowed: str, threads_a_core: int = 1, files: dict[str, str] | None = None) -> Path:
    """Folder of a machine of 64 CPUs, with further files."""
    found = {"proc/self/status": f"Name:\tpython\nCpus_allowed:\tff\nCpus_allowed_list:\t{allowed}\n"}
    apart = 64 // threads_a_core  # numbers of a core's threads
    for cpu in range(64):
        siblings = ",".join(str(cpu % apart + thread * apart) for thread in range(threads_a_core))
        found[f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"] = f"{siblings}\n"
    for name, text in {**found, **(files or {})}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("allowed", "threads_a_core", "cpus", "on_cores"),
    [("0-63", 1, 64, 64), ("0-63", 2, 64, 32), ("0-3,32-35", 2, 8, 4), ("5", 1, 1, 1), ("0-1,4,6-7", 2, 5, 5)],
)
def test_what_a_process_is_bound_to(tmp_path, allowed, threads_a_core, cpus, on_cores):
    root = machine(tmp_path, allowed, threads_a_core)
    assert (usable_cpus(root), usable_cores(root)) == (cpus, on_cores)


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ({"proc/cpuinfo": 2 * "processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC: 7B13\n\n"}, "AMD EPYC: 7B13"),
        ({"proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd\n"}, None),
        ({}, None),
    ],
)
def test_the_processor_has_a_name(tmp_path, said, name):
    root = machine(tmp_path, "0-63", files=said)
    assert processor_name(root) == (name or platform.processor() or platform.machine())


def second(path: str, **quotas: str) -> dict[str, str]:
    """Files of control groups of version 2."""
    files = {f"sys/fs/cgroup/{group.strip('_')}/cpu.max": f"{quota}\n" for group, quota in quotas.items()}
    return files | {"proc/self/cgroup": f"0::{path}\n"}


def first(group: str, quota: int) -> dict[str, str]:
    """Of version 1, a process of the group /docker/a1."""
    folder = f"sys/fs/cgroup/cpu,cpuacct{group}"
    files = {f"{folder}/cpu.cfs_quota_us": f"{quota}\n", f"{folder}/cpu.cfs_period_us": "100000\n"}
    return files | {"proc/self/cgroup": "5:memory:/\n4:cpu,cpuacct:/docker/a1\n0::/\n"}


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        pytest.param(second("/a", a="200000 100000"), 2, id="version 2"),
        pytest.param(second("/a", a="max 100000"), 64, id="version 2, none"),
        pytest.param(second("/a/b", a="350000 100000"), 3, id="version 2, three and a half of the group above"),
        pytest.param(second("/a", a="50000 100000"), 1, id="version 2, half a core"),
        pytest.param(second("/docker/a1", _="400000 100000"), 4, id="version 2, in a container with the host's paths"),
        pytest.param(first("/docker/a1", 200000), 2, id="version 1"),
        pytest.param(first("/docker/a1", -1), 64, id="version 1, none"),
        pytest.param(first("", 800000), 8, id="version 1, in a container with the host's paths"),
    ],
)
def test_the_quota_of_a_container(tmp_path, files, cpus):
    root = machine(tmp_path, "0-63", files=files)
    assert usable_cpus(root) == usable_cores(root) == cpus


def test_a_machine_that_says_nothing_is_used_whole(tmp_path):
    assert usable_cpus(tmp_path) == usable_cores(tmp_path) == os.cpu_count()
    assert Moment.now(tmp_path).busy == 0


@pytest.mark.parametrize("is_nice", [False, True])
def test_what_is_busy_is_read_of_the_allowed_cpus(tmp_path, monkeypatch, is_nice):
    """User, system, irq, softirq and steal; nice processes yield to others. Guests are counted within user."""
    monkeypatch.setattr(cores, "_is_nice", lambda: is_nice)
    tick = os.sysconf("SC_CLK_TCK")
    cpus = [f"cpu{cpu} {cpu * tick} {5 * tick} {tick} 700 600 {tick} {tick} {tick} 77 0" for cpu in range(4)]
    stat = "\n".join(["cpu  9 9 9 9", *cpus, "intr 5 6", "ctxt 7", ""])
    root = machine(tmp_path, "1-2", files={"proc/stat": stat})
    assert Moment.now(root).busy == 1 + 2 + 2 * 4 + (2 * 5 if is_nice else 0)


def test_what_the_processes_of_a_quota_have_used(tmp_path):
    """Of the version that has one, in its units."""
    files = second("/a", a="200000 100000") | {"sys/fs/cgroup/a/cpu.stat": "usage_usec 3000000\nuser_usec 1\n"}
    assert Moment.now(machine(tmp_path / "2", "0-63", files=files)).limits == ((3.0, 2.0),)
    files = first("", 300000) | {"sys/fs/cgroup/cpu,cpuacct/cpuacct.usage": "5000000000\n"}
    assert Moment.now(machine(tmp_path / "1", "0-63", files=files)).limits == ((5.0, 3.0),)


def after(seconds: float, busy: float, own: float, *used: float) -> Moment:
    return Moment(100 + seconds, 1000 + busy, OWN + own, tuple((3 + each, 2.0) for each in used))


@pytest.mark.parametrize(
    ("on_cores", "now", "running", "idle"),
    [
        pytest.param(2, after(4, 2, 2), 1, 2, id="a quiet machine: what is busy is this process"),
        pytest.param(2, after(4, 6, 2), 1, 1, id="one other process"),
        pytest.param(2, after(4, 3, 2), 1, 2, id="another process now and then"),
        pytest.param(2, after(4, 10, 1), 1, 1, id="more processes than cores"),
        pytest.param(16, after(4, 11.8, 2), 1, 14, id="two and a half"),
        pytest.param(16, after(4, 16, 4), 4, 16, id="four ranks that start together are no others"),
        pytest.param(2, after(4, 120, 2, 2), 1, 2, id="others on the host, a quota of two cores"),
        pytest.param(2, after(4, 120, 2, 6), 1, 1, id="another process within the quota"),
    ],
)
def test_cores_that_others_keep_busy_are_left_to_them(on_cores, now, running, idle):
    before = after(0, 0, 0, *(0 for _ in now.limits))
    many = on_cores if not now.limits else 64
    assert min(on_cores, idle_cores(many, before, now, running)) == idle


@pytest.fixture
def no_choice(monkeypatch):
    """Nobody has chosen a number of threads; what is set is undone."""
    before = torch.get_num_threads()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cores, "usable_cores", lambda: 8)
    monkeypatch.setattr(cores, "idle_cores", lambda number, *others: number - 1)
    yield monkeypatch
    torch.set_num_threads(before)


@pytest.mark.parametrize(("ranks", "threads"), [(1, 7), (2, 3), (9, 1)])
def test_ranks_share_what_is_idle(no_choice, ranks, threads):
    no_choice.setenv("OMP_NUM_THREADS", "")
    cores.share_cores(ranks)
    assert (torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]) == (threads, str(threads))


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_a_number_that_the_user_has_chosen_stays(no_choice, name):
    no_choice.setenv(name, "5")
    before = torch.get_num_threads()
    cores.share_cores()
    assert (torch.get_num_threads(), os.environ[name]) == (before, "5")
    assert {"OMP_NUM_THREADS", "MKL_NUM_THREADS"} & set(os.environ) == {name}


BEFORE_TORCH = """
import importlib.abc, os, sys

class Watch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torch" and "seen" not in globals():
            globals()["seen"] = {key: os.environ.get(key) for key in ("OMP_WAIT_POLICY", "KMP_BLOCKTIME")}

sys.meta_path.insert(0, Watch())
from scaled_ig.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    print(seen["OMP_WAIT_POLICY"], seen["KMP_BLOCKTIME"])
"""


@pytest.mark.slow("programs that begin cold")
@pytest.mark.parametrize(
    ("call", "chosen"),
    [
        ("fit --print_config", {}),
        ("bank info nowhere", {}),
        ("add", {"OMP_WAIT_POLICY": "ACTIVE", "KMP_BLOCKTIME": "7"}),
    ],
)
def test_threads_are_told_how_to_wait_before_torch_is_imported(call, chosen):
    clean = {name: value for name, value in os.environ.items() if name not in cores.PASSIVE}
    command = [sys.executable, "-c", BEFORE_TORCH, *call.split()]
    done = subprocess.run(command, env=clean | chosen, capture_output=True, text=True)
    expected = [chosen.get(name, value) for name, value in cores.PASSIVE.items()]
    assert done.stdout.splitlines()[-1] == " ".join(expected), done.stderr[-2000:]
