"""The server that browsers talk to: one page for each of them, until the program is interrupted."""

from __future__ import annotations

import contextlib
import io
import socket
from collections.abc import Callable
from typing import Any, Protocol

from scaled_ig.errors import UsageError

LOCAL = ("localhost", "127.0.0.1", "::1")
FRONT_RIGHT = (0.7, -0.9, 0.6)
"""Where the browser's own way back leads to, world units."""


class Page(Protocol):
    """What one browser shows."""

    def close(self) -> None:
        """The browser has gone."""


def start(host: str, port: int, open_page: Callable[[Any], Page]) -> Any:
    """A running server, ``viser.ViserServer``, whose browsers each get a page.

    Args:
        host: Address to listen at.
        port: Port; 0 for one that is free.
        open_page: Builds the page of a browser, ``viser.ClientHandle``.

    Raises:
        UsageError: viser is missing, or the address cannot be listened at.
    """
    try:
        import viser
    except ImportError:
        raise UsageError("the viewer needs viser: pip install 'scaled-ig[viewer]'") from None
    _require_free(host, port)
    with contextlib.redirect_stdout(io.StringIO()):  # its banner
        server = viser.ViserServer(host=host, port=port, verbose=False)
    if port and server.get_port() != port:  # it takes the next one where another program was faster
        server.stop()
        raise UsageError(_taken(port))
    server.gui.configure_theme(show_logo=False, show_share_button=False)  # sharing would go through a server of others
    server.initial_camera.position, server.initial_camera.look_at = FRONT_RIGHT, (0.0, 0.0, 0.0)
    pages: dict[int, Page] = {}

    def enter(client: Any) -> None:
        pages[client.client_id] = open_page(client)
        if client.client_id not in server.get_clients():  # it has left meanwhile
            leave(client)

    def leave(client: Any) -> None:
        page = pages.pop(client.client_id, None)
        if page is not None:
            page.close()

    server.on_client_connect(enter)
    server.on_client_disconnect(leave)
    return server


def stop(server: Any) -> None:
    """End a server. It waits some seconds at most for browsers that do not answer."""
    with contextlib.redirect_stdout(io.StringIO()):  # its farewell
        server.stop()


def address(server: Any) -> str:
    """Where a browser finds a server."""
    host = server.get_host()
    shown = "localhost" if host in (*LOCAL, "0.0.0.0", "::") else host
    return f"http://{shown}:{server.get_port()}"


def _require_free(host: str, port: int) -> None:
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror:
        raise UsageError(f"--host {host} is no address: give localhost, or 0.0.0.0 for other machines too") from None
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(place)
        except PermissionError:
            raise UsageError(f"--port {port} is for the system alone: give one above 1023") from None
        except OverflowError:
            raise UsageError(f"--port {port} is none: give one from 1 to 65535") from None
        except OSError as error:
            if error.errno in (99, 49):  # EADDRNOTAVAIL of Linux and of macOS
                raise UsageError(f"--host {host} is no address of this machine: give localhost") from None
            raise UsageError(_taken(port)) from None


def _taken(port: int) -> str:
    return f"--port {port} is in use by another program: give another one, such as --port {port + 1}"
