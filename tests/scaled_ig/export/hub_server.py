"""As much of the Hugging Face Hub as a push of small files asks for, on this machine."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Hub:
    """What was pushed.

    Attributes:
        url: Of the server.
        created: What was said of each new repository.
        commits: Files of each commit by name.
        full: Whether commits are refused.
    """

    def __init__(self) -> None:
        self.url, self.full = "", False
        self.created: list[dict[str, object]] = []
        self.commits: list[dict[str, bytes]] = []

    def answer(self, path: str, body: bytes) -> tuple[int, dict[str, object]]:
        if path == "/api/repos/create":
            self.created.append(json.loads(body))
            return 200, {"url": f"{self.url}/datasets/me/planes"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
            return 200, {"files": modes}
        if path.endswith("/commit/main"):
            if self.full:
                return 403, {"error": "the storage of this account is full"}
            lines = [json.loads(line) for line in body.splitlines()]
            files = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            self.commits.append(files)
            return 200, {"commitUrl": f"{self.url}/datasets/me/planes/commit/0123", "commitOid": "0123"}
        return 404, {"error": path}


@contextmanager
def serving() -> Iterator[Hub]:
    """A server while it is needed."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, content = hub.answer(self.path.partition("?")[0], body)
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = answer  # noqa: N815 - the library's names

        def log_message(self, *arguments) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
