"""Whether the other ranks of a run still live, and what one of them must tell all.

A thread of every rank sends a beat to the first rank, whose answer says what all must know. What a rank computes does
not matter: one that compiles, encodes or writes for minutes beats on, one that was killed or stopped does not. The
first rank judges the others, and the others judge the first. A beat is a line of text: a rank's number, a signal that
it was sent, and why the run ends; an answer is the last two of these, by the first rank's knowledge.
"""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import TextIO

import torch.distributed as dist

BEAT = 0.5  # seconds between two beats
LATE = 3.0  # seconds of silence that say which rank has ended, once a connection is broken


class Heartbeat:
    """Beats of one rank, from the moment that it is made. Making it is collective.

    Args:
        rank: Its number.
        world_size: How many there are.
        timeout: Seconds of silence after which a rank is given up.
        place: Where this rank is in its work, for people.

    Attributes:
        asked: Signal that any rank was sent; 0 for none.
        end: Why the run ends, where a rank is lost; empty while all is well.
        in_doubt: Whether a collective operation has failed, so that somebody must be missing.
    """

    def __init__(self, rank: int, world_size: int, timeout: float, place: Callable[[], str]) -> None:
        self.rank, self.timeout, self.place = rank, timeout, place
        self.asked, self.end, self.in_doubt = 0, "", False
        self._silence = dict.fromkeys(range(1, world_size) if rank == 0 else [0], 0.0)  # seconds, by rank
        self._broken: set[int] = set()  # ranks whose connection is
        self._closing, self._wake, self._told = threading.Event(), threading.Event(), threading.Event()
        port = [0]
        if rank == 0:
            # Of both kinds of addresses where the system has them: ranks know the first one by a name.
            both = socket.has_dualstack_ipv6()
            family = socket.AF_INET6 if both else socket.AF_INET
            server = socket.create_server(("", 0), family=family, backlog=world_size, dualstack_ipv6=both)
            port[0] = server.getsockname()[1]
        dist.broadcast_object_list(port)
        if rank == 0:
            thread = threading.Thread(target=self._answer, args=(server,), daemon=True, name="heartbeat")
        else:
            link = socket.create_connection((os.environ["MASTER_ADDR"], port[0]), timeout)
            link.settimeout(None)  # a silent first rank is the judgement of listen
            thread = threading.Thread(target=self._beat, args=(link,), daemon=True, name="heartbeat")
        thread.start()

    def tell(self, asked: int = 0, end: str = "") -> None:
        """Tell all ranks that a signal has come, or why the run ends; the first word counts."""
        self._told.clear()
        self._learn(asked, " ".join(end.split()))
        self._wake.set()

    def leave(self) -> None:
        """Wait, for a moment, until the others have heard what was told."""
        if self.rank == 0:
            time.sleep(2 * BEAT)
        else:
            self._told.wait(4 * BEAT)

    def close(self) -> None:
        """End in good order: what is left to do concerns no other rank."""
        self._closing.set()
        self._wake.set()

    def listen(self, seconds: float) -> None:
        """Count time that has passed, and give up a rank that was silent for too long.

        Args:
            seconds: In which this process was not stopped itself.
        """
        for rank, silence in list(self._silence.items()):
            self._silence[rank] = silence + seconds
            has_ended = (self.in_doubt or rank in self._broken) and self.timeout > LATE
            if self._silence[rank] > (LATE if has_ended else self.timeout):
                how = "has ended" if has_ended else f"has not answered for {self.timeout:g} s"
                self.tell(end=f"rank {rank} {how} {self.place()}")

    def _learn(self, asked: int, end: str) -> None:
        self.asked, self.end = self.asked or asked, self.end or end

    def _beat(self, link: socket.socket) -> None:
        """Speak to the first rank until the end, or until it has gone."""
        try:
            with link, link.makefile("rw", encoding="utf-8") as words:
                while not self._closing.is_set():
                    beat = (self.asked, self.end)
                    self._say(words, self.rank, *beat)
                    asked, _, end = words.readline().rstrip("\n").partition("\t")
                    self._learn(int(asked), end)
                    self._silence[0] = 0.0
                    if beat == (self.asked, self.end):
                        self._told.set()
                    self._wake.wait(BEAT)
                    self._wake.clear()
                self._say(words, self.rank, "bye", "")
        except (OSError, ValueError):  # ValueError: an empty answer
            self._broken.add(0)
            self._told.set()

    def _say(self, words: TextIO, *content: object) -> None:
        words.write("\t".join(map(str, content)) + "\n")
        words.flush()

    def _answer(self, server: socket.socket) -> None:
        """Hear the other ranks, on the first one."""
        with selectors.DefaultSelector() as links, server:
            links.register(server, selectors.EVENT_READ)
            unfinished: dict[socket.socket, bytes] = {}
            rank_of: dict[socket.socket, int] = {}
            while not self._closing.is_set():
                for key, _ in links.select(BEAT):
                    link = key.fileobj
                    assert isinstance(link, socket.socket)
                    if link is server:
                        link, _ = server.accept()
                        links.register(link, selectors.EVENT_READ)
                        unfinished[link] = b""
                        continue
                    try:
                        heard = link.recv(4096)
                        *lines, unfinished[link] = (unfinished[link] + heard).split(b"\n")
                        for line in lines:
                            rank_of[link] = self._hear(link, line.decode())
                    except (OSError, ValueError):  # ValueError: a stranger's words
                        heard = b""
                    if not heard:
                        links.unregister(link)
                        link.close()
                        self._broken.add(rank_of.get(link, -1))

    def _hear(self, link: socket.socket, line: str) -> int:
        """Take up a beat and answer it; the rank that it is from."""
        rank, asked, end = line.split("\t")
        if asked == "bye":
            self._silence.pop(int(rank), None)
            return -1
        if int(rank) in self._silence:
            self._silence[int(rank)] = 0.0
        self._learn(int(asked), end)
        link.sendall(f"{self.asked}\t{self.end}\n".encode())
        return int(rank)
