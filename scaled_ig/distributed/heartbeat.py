"""Whether the other ranks of a run still live, and what one of them must tell all.

A thread of every rank writes a beat into a store that the first rank keeps, and reads there what all must know. What a
rank computes does not matter: one that compiles, encodes or writes for minutes beats on, one that was killed or stopped
does not. The first rank judges the others, and the others judge the first.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import torch.distributed as dist

BEAT = 0.5  # seconds between two beats
LATE = 3.0  # seconds of silence that say which rank has ended, once a connection is broken


class Heartbeat:
    """Beats of one rank.

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
        self._others = [f"rank {number}" for number in range(1, world_size)]
        self._silence = dict.fromkeys(self._others if rank == 0 else ["rank 0"], 0.0)
        self._heard: dict[str, str] = {}
        self._closing, self._wake, self._told = threading.Event(), threading.Event(), threading.Event()
        self._broken = False
        self._store = self._meet()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="heartbeat")
        self._thread.start()

    def _meet(self) -> dist.TCPStore:
        """The store, on a port that the system chooses. Collective."""
        host, port = os.environ["MASTER_ADDR"], [0]
        store = None
        if self.rank == 0:
            store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False)
            for name in ("asked", "end", *self._others):
                store.set(name, "")
            port[0] = store.port
        dist.broadcast_object_list(port)
        return store or dist.TCPStore(host, port[0], is_master=False, wait_for_workers=False)

    def tell(self, asked: int = 0, end: str = "") -> None:
        """Tell all ranks that a signal has come, or why the run ends; the first word counts."""
        self.asked, self.end = self.asked or asked, self.end or end
        self._told.clear()
        self._wake.set()

    def leave(self) -> None:
        """Wait, for a moment, until the others have heard what was told; their store ends with the first rank."""
        self._told.wait(4 * BEAT)
        if self.rank == 0 and not self._broken:
            time.sleep(2 * BEAT)

    def close(self) -> None:
        """End without a word: what is left to do concerns no other rank."""
        self._closing.set()
        self._wake.set()

    def listen(self, seconds: float) -> None:
        """Count time that has passed, and give up a rank that was silent for too long.

        Args:
            seconds: In which this process was not stopped itself.
        """
        for name in self._silence:
            self._silence[name] += seconds
            limit = min(LATE, self.timeout) if self.in_doubt or self._broken else self.timeout
            if self._silence[name] > limit and not self._closing.is_set():
                if limit < self.timeout:
                    said = f"{name} has ended {self._place_of(name)}"
                else:
                    said = f"{name} has not answered for {limit:g} s {self._place_of(name)}"
                self.tell(end=said)
                return

    def _place_of(self, name: str) -> str:
        return self._heard.get(name, "").partition("\t")[2] or self.place()

    def _beat(self) -> None:
        count = 0
        try:
            while not self._closing.is_set():
                count += 1
                asked, end = self.asked, self.end
                self._store.set(f"rank {self.rank}", f"{count}\t{self.place()}")
                if asked:
                    self._store.compare_set("asked", "", str(asked))
                if end:
                    self._store.compare_set("end", "", end)
                names = ["asked", "end", *(self._others if self.rank == 0 else ())]
                first_asked, first_end, *beats = (value.decode() for value in self._store.multi_get(names))
                if first_asked:
                    self.asked = int(first_asked)
                if first_end:
                    self.end = first_end
                if self.rank:
                    self._silence["rank 0"] = 0.0
                for name, beat in zip(self._others, beats, strict=False):
                    if beat != self._heard.get(name):
                        self._heard[name], self._silence[name] = beat, 0.0
                if (asked, end) == (self.asked, self.end):
                    self._told.set()
                self._wake.wait(BEAT)
                self._wake.clear()
        except RuntimeError:  # the first rank has gone, and the store with it
            self._broken = True
            self._told.set()
