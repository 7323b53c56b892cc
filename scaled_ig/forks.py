"""Locks of a process that may be forked at any time, as data loaders fork their workers."""

import os
import threading


def fork_safe_lock() -> threading.RLock:
    """A lock that no other thread holds when this process is forked: in the child it would be held for ever."""
    lock = threading.RLock()
    os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock
