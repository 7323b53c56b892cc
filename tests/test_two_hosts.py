"""Two hosts train what one process does: two network namespaces of this machine, joined by a link of their own."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import LEAKS
from tests.rounding import PHASES, assert_same_training

pytestmark = pytest.mark.slow("runs of several ranks on two hosts")
BIN = Path(sys.executable).parent
TABLE = "127.0.0.1 localhost\n10.77.0.1 node0\n10.77.0.2 node1\n"


def call(*words: object) -> str:
    return subprocess.run(list(map(str, words)), check=True, capture_output=True, text=True, timeout=20).stdout


def why_no_namespaces() -> str | None:
    if sys.platform != "linux" or os.geteuid():
        return "two hosts on one machine are network namespaces, which root makes on Linux"
    missing = [tool for tool in ("ip", "unshare", "nsenter") if shutil.which(tool) is None]
    if missing:
        return f"two hosts on one machine need the programs {', '.join(missing)}"
    tried = subprocess.run(["unshare", "--net", "--uts", "--mount", "true"], capture_output=True, text=True)
    return f"namespaces may not be made here: {tried.stderr.strip()}" if tried.returncode else None


class Host:
    """A name, a network and a table of names of its own, which are gone with the last of its processes.

    Args:
        number: 0 or 1.
        folder: Where its table of names and its output are.
    """

    def __init__(self, number: int, folder: Path) -> None:
        self.number, self.name, self.address = number, f"node{number}", f"10.77.0.{number + 1}"
        self.table, self.output = folder / f"hosts-{number}", folder / f"output-{number}"
        self.table.write_text(TABLE)
        keeper = ["unshare", "--net", "--uts", "--mount", "sh", "-c", "echo; exec cat"]  # ends when its input does
        self.keeper = subprocess.Popen(keeper, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.keeper.stdout is not None
        self.keeper.stdout.readline()
        self.network = os.readlink(f"/proc/{self.keeper.pid}/ns/net")

    def inside(self, *words: object) -> list[str]:
        """A command, carried out on this host."""
        return ["nsenter", f"--target={self.keeper.pid}", "--net", "--uts", "--mount", "--", *map(str, words)]

    def set_up(self) -> None:
        """Everything but the link, which two hosts have together."""
        call(*self.inside("hostname", self.name))
        call(*self.inside("mount", "--bind", self.table, "/etc/hosts"))
        call(*self.inside("ip", "link", "set", "lo", "up"))
        call(*self.inside("ip", "address", "add", f"{self.address}/24", "dev", "wire"))
        call(*self.inside("ip", "link", "set", "wire", "up"))

    def received_bytes(self) -> int:
        """What has come over the link."""
        (line,) = re.findall(r"wire:\s*(\d+)", call(*self.inside("cat", "/proc/net/dev")))
        return int(line)

    def start(self, words: list[object], environment: dict[str, str]) -> subprocess.Popen:
        with self.output.open("w") as output:
            return subprocess.Popen(
                self.inside(*words), env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def stop(self) -> None:
        """End what still runs here, the host itself last."""
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if os.readlink(process / "ns/net") == self.network and int(process.name) != self.keeper.pid:
                    os.kill(int(process.name), signal.SIGKILL)

    def close(self) -> None:
        self.stop()
        self.keeper.kill()
        self.keeper.communicate()


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    if reason := why_no_namespaces():
        pytest.skip(reason)
    with contextlib.ExitStack() as closing:
        two = []
        for number in range(2):
            two.append(Host(number, tmp_path_factory.getbasetemp()))
            closing.callback(two[-1].close)
        ends = [("name", "wire", "netns", host.keeper.pid) for host in two]
        try:
            call("ip", "link", "add", *ends[0], "type", "veth", "peer", *ends[1])
            for host in two:
                host.set_up()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"hosts cannot be joined here: {error.stderr.strip()}")
        yield two


def torchrun(host: Host, processes: int) -> tuple[dict[str, str], list[object]]:
    """By address; the host's own name leads to its loopback, as on many machines."""
    where = ("--node-rank", host.number, "--master-addr", "10.77.0.1", "--master-port", 29511)
    count = ("--nnodes", 2, "--nproc-per-node", processes)
    return {"GLOO_SOCKET_IFNAME": "wire"}, [BIN / "torchrun", *count, *where, "--no-python", BIN / "scaled-ig"]


def torchrun_rendezvous(host: Host, processes: int) -> tuple[dict[str, str], list[object]]:
    """By name: one command for all hosts."""
    where = ("--rdzv-backend", "c10d", "--rdzv-endpoint", "node0:29512", "--rdzv-id", "stage2")
    count = ("--nnodes", 2, "--nproc-per-node", processes)
    return {}, [BIN / "torchrun", *count, *where, "--no-python", BIN / "scaled-ig"]


def slurm(host: Host, processes: int) -> tuple[dict[str, str], list[object]]:
    """What srun would set for the only task of a node."""
    assert processes == 1
    everywhere = {"JOB_ID": 4242, "JOB_NAME": "stage2", "NTASKS": 2, "NTASKS_PER_NODE": 1, "NNODES": 2, "STEP_ID": 0}
    everywhere |= {"NODELIST": "node[0-1]", "JOB_NODELIST": "node[0-1]"}
    task = {"PROCID": host.number, "NODEID": host.number, "LOCALID": 0}
    return {f"SLURM_{name}": str(value) for name, value in {**everywhere, **task}.items()}, [BIN / "scaled-ig"]


def lightning(host: Host, processes: int) -> tuple[dict[str, str], list[object]]:
    """Lightning's own launcher, started on each host; here the status is the program's, not torchrun's."""
    where = {"MASTER_ADDR": "node0", "MASTER_PORT": "29513", "NODE_RANK": str(host.number)}
    return where, [BIN / "scaled-ig"]


def launch(hosts, launcher, processes, *arguments, second=()) -> list[tuple[int, str]]:
    """Runs ``scaled-ig`` on both hosts: exit status and output of each.

    Args:
        hosts: The two.
        launcher: Environment and program of a host.
        processes: Ranks a host.
        arguments: Of ``scaled-ig``.
        second: Further ones of the second host alone.
    """
    clean = {name: value for name, value in os.environ.items() if name not in LEAKS and "SLURM" not in name}
    clean |= {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", "CUDA_VISIBLE_DEVICES": ""}
    ranks = ("--trainer.num_nodes", 2, "--trainer.devices", processes, "--trainer.strategy", "ddp")
    running = []
    try:
        for host in hosts:
            own, program = launcher(host, processes)
            more = second if host.number else ()
            running.append(host.start([*program, *arguments, *ranks, *more], clean | own))
        end = time.monotonic() + 240  # of a busy machine
        statuses = [process.wait(max(1, end - time.monotonic())) for process in running]
    finally:
        for host in hosts:
            host.stop()
        for process in running:
            process.wait()
    return [(status, host.output.read_text()) for status, host in zip(statuses, hosts, strict=True)]


def test_hosts_are_apart(hosts):
    for host in hosts:
        assert call(*host.inside("hostname")).strip() == host.name
        addresses = call(*host.inside("ip", "-4", "-brief", "address", "show", "up"))
        assert re.findall(r"[\d.]+(?=/)", addresses) == ["127.0.0.1", host.address]
    assert hosts[0].network != hosts[1].network != os.readlink("/proc/self/ns/net")


@pytest.mark.parametrize(
    ("launcher", "processes"),
    [(torchrun, 1), (torchrun_rendezvous, 2), (slurm, 1)],
    ids=["torchrun", "torchrun, two ranks a host, which meet by name", "SLURM"],
)
def test_two_hosts_end_where_one_process_does(hosts, tmp_path, tiny_config, tiny_run, launcher, processes):
    own_name = "127.0.0.1 localhost\n127.0.1.1 {}\n" if launcher is torchrun else TABLE
    for host in hosts:
        host.table.write_text(own_name.format(host.name))
    before = [host.received_bytes() for host in hosts]
    phases = PHASES if launcher is torchrun else PHASES[:2]
    skipped = [f"--phases.{phase}=null" for phase in PHASES if phase not in phases]
    options = ("--config", tiny_config, "--run_dir", tmp_path / "run", *skipped)
    ends = launch(hosts, launcher, processes, "fit", *options)
    assert [status for status, _ in ends] == [0, 0], ends[0][1][-3000:] + ends[1][1][-3000:]
    received = [host.received_bytes() - start for host, start in zip(hosts, before, strict=True)]
    assert min(received) > 100_000, "gradients went over the link"
    print(f"bytes that {hosts[0].address}, {hosts[1].address} received: {received}")
    assert_same_training(tiny_run, tmp_path / "run", phases)
    assert ["unseen views" in output for _, output in ends] == [True, False], "the first rank speaks for all"
    assert not list((tmp_path / "run").rglob("*.part"))


def test_a_host_with_another_plan_stops_all(hosts, tmp_path, tiny_config):
    for host in hosts:
        host.table.write_text(TABLE)
    run, other = tmp_path / "run", ("--data.split_seed", 9)
    ends = launch(hosts, lightning, 1, "fit", "--config", tiny_config, "--run_dir", run, second=other)
    for status, output in ends:
        assert status == 2, output[-3000:]
        assert "Traceback" not in output
    (sentence,) = [line for _, output in ends for line in output.splitlines() if line.startswith("error: ")]
    assert re.search(r"rank 1.* differs in \S*split_seed", sentence)
    assert not run.exists() or not list(run.iterdir())


def test_a_mistake_is_said_by_one_rank_alone(hosts, tmp_path, tiny_config):
    for host in hosts:
        host.table.write_text(TABLE)
    both = ("--phases.joint.max_epochs", 3)  # and max_steps
    ends = launch(hosts, slurm, 1, "fit", "--config", tiny_config, "--run_dir", tmp_path / "run", *both)
    assert [status for status, _ in ends] == [2, 2], ends[0][1][-3000:]
    sentences = [line for _, output in ends for line in output.splitlines() if line.startswith("error: ")]
    assert sentences == ["error: phases.joint needs either max_epochs or max_steps: set the other one to null"]
    assert not (tmp_path / "run").exists()
