"""The view that ``scaled-ig dashboard`` saves, as W&B's own client sends it to a server: one of the test's."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

pytest.importorskip("wandb_workspaces", reason="pip install 'scaled-ig[dashboard]'")

OF_VIEWS = {"id": "id", "name": "nw-abc-v"}


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Address of a server that takes views, and what it has been asked."""
    asked: list[dict[str, Any]] = []

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            data: dict[str, Any] = {}
            if self.path == "/graphql":
                asked.append(json.loads(content))
                query = asked[-1]["query"]
                data = {"upsertView": {"view": OF_VIEWS, "inserted": True}} if "upsertView" in query else {}
                if "viewer" in query:
                    viewer = {"id": "1", "entity": "somebody", "username": "somebody", "email": "", "flags": "{}"}
                    data = {"viewer": viewer | {"teams": {"edges": []}}}
            answer = json.dumps({"data": data}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Answers) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()
        thread.join()


def metrics_in(panels: Any) -> Iterator[str]:
    """Keys that panels show."""
    for panel in panels:
        config = panel["config"]
        yield from config.get("metrics", [])
        yield from config.get("mediaKeys", [])
        yield from (config[axis].removeprefix("summary:") for axis in ("xAxis", "yAxis") if axis in config)


@pytest.mark.slow("W&B's client, which takes its time to begin and to end")
def test_the_view_is_sent_to_the_server(run_scaled_ig, server, tmp_path):
    address, asked = server
    key = {"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": address, "HOME": str(tmp_path), "WANDB_MODE": "online"}
    status, output = run_scaled_ig("dashboard", "--group", "ablations-demo", **key)
    assert status == 0, output[-2000:]
    assert output.splitlines()[-1].startswith(f"{address}/somebody/scaled-ig?nw=abc")
    (sent,) = [call["variables"] for call in asked if "upsertView" in call["query"]]
    assert (sent["entityName"], sent["projectName"], sent["displayName"]) == ("somebody", "scaled-ig", "ablations-demo")
    section = json.loads(sent["spec"])["section"]
    (runs,) = section["runSets"]
    assert runs["grouping"] == [{"section": "run", "name": "jobType"}]
    (condition,) = runs["filters"]["filters"]
    assert (condition["key"], condition["value"]) == ({"section": "run", "name": "group"}, "ablations-demo")
    shown = {key for part in section["panelBankConfig"]["sections"] for key in metrics_in(part["panels"])}
    assert {"quality/s2/psnr", "cost/seconds_per_scene", "axes/seconds", "val/psnr", "pictures/grid"} <= shown


def test_without_a_key_it_says_what_else_there_is(run_scaled_ig, tmp_path):
    clean = {"WANDB_API_KEY": "", "HOME": str(tmp_path), "NETRC": str(tmp_path / "none")}
    status, output = run_scaled_ig("dashboard", **clean)
    assert status == 2
    assert "wandb login; or docs/wandb.md says how" in output.splitlines()[-1]


@pytest.mark.slow("W&B's client, which tries again and again")
def test_a_server_that_is_not_there_is_one_sentence(run_scaled_ig, tmp_path):
    key = {"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9", "HOME": str(tmp_path)}
    quick = {"WANDB_HTTP_TIMEOUT": "2", "WANDB_MODE": "online"}
    status, output = run_scaled_ig("dashboard", "--entity", "somebody", **quick, **key)
    assert status == 2, output[-2000:]
    assert output.splitlines()[-1].startswith("error: W&B did not take the view (")
