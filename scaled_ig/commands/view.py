"""``scaled-ig view``: scenes or views in a browser."""

from typing import Annotated

from scaled_ig.ranges import Range, checked


@checked
def view(
    path: str, *, pack: str | None = None, host: str = "localhost", port: Annotated[int, Range(0, 65535)] = 8080
) -> int:
    """Shows the scenes of a run or of a bank, or the views of a pack, in a browser until it is interrupted.

    Examples:
        scaled-ig view runs/mine
        scaled-ig view data/mine --port 8081

    Args:
        path: Folder of a run, of a bank or of a pack.
        pack: Folder of the run's pack, where it has been moved since.
        host: Address to listen at; 0.0.0.0 for browsers on other machines too, with no password.
        port: Port to listen at; 0 for one that is free.

    Returns:
        Exit code 0; interrupting it is exit code 130.

    Raises:
        UsageError: There is no run, bank or pack, or the address is taken.
    """
    import threading
    from pathlib import Path

    from scaled_ig.viewer import server
    from scaled_ig.viewer.pages import page_of

    page = page_of(Path(path), pack)
    running = server.start(host, port, page.open)
    print(f"{page.name}: open {server.address(running)} in a browser; Ctrl-C ends", flush=True)
    try:
        threading.Event().wait()
    finally:
        running.stop()
    return 0
