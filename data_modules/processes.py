"""What child processes owe to the one that started them."""

import os
from multiprocessing import parent_process
from multiprocessing.connection import wait


def end_with_parent() -> None:
    """Ends this child process when its parent dies, since it would go on writing beside the next call; never returns.

    Meant for a thread of its own.
    """
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
