"""A stand-in for the Hugging Face hub: the HTTP calls of an upload, weights by git-lfs; keeps what was committed."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hub:
    """What it was sent."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.url = ""
        self.repositories: dict[str, bool] = {}
        """Name -> is it private?"""
        self.objects: dict[str, bytes] = {}
        """What git-lfs stored, by sha256."""
        self.files: dict[str, bytes] = {}
        """What the last commit made, by path."""


@contextlib.contextmanager
def served(token: str = "hf_secret") -> Iterator[Hub]:
    """The hub on loopback while the context lasts."""
    hub = Hub(token)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def answer(self, content: Any, status: int = 200) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def do_PUT(self) -> None:
            hub.objects[self.path.rpartition("/")[2]] = self.body()
            self.answer({})

        def do_GET(self) -> None:
            self.answer({"error": "not found"}, 404)

        def do_POST(self) -> None:
            body = self.body()
            if self.headers.get("Authorization") != f"Bearer {hub.token}":
                self.answer({"error": "Invalid credentials in Authorization header"}, 401)
            elif self.path == "/api/repos/create":
                asked = json.loads(body)
                name = "/".join(part for part in (asked.get("organization"), asked["name"]) if part)
                hub.repositories[name] = asked.get("private") or asked.get("visibility") == "private"
                self.answer({"url": f"{hub.url}/{name}"})
            elif self.path.startswith("/api/validate-yaml"):
                self.answer({"errors": [], "warnings": []})
            elif "/preupload/" in self.path:
                names = [file["path"] for file in json.loads(body)["files"]]
                modes = {name: "lfs" if name.endswith(".safetensors") else "regular" for name in names}
                self.answer({"files": [{"path": n, "uploadMode": modes[n], "shouldIgnore": False} for n in names]})
            elif self.path.endswith("/info/lfs/objects/batch"):
                objects = [
                    {**one, "actions": {"upload": {"href": f"{hub.url}/lfs/{one['oid']}", "header": {}}}}
                    for one in json.loads(body)["objects"]
                ]
                self.answer({"transfer": "basic", "objects": objects})
            elif "/commit/" in self.path:
                for line in map(json.loads, body.splitlines()):
                    value = line["value"]
                    if line["key"] == "file":
                        hub.files[value["path"]] = base64.b64decode(value["content"])
                    if line["key"] == "lfsFile":
                        hub.files[value["path"]] = hub.objects[value["oid"]]
                name = self.path.removeprefix("/api/models/").partition("/commit/")[0]
                self.answer({"commitUrl": f"{hub.url}/{name}/commit/1", "commitOid": "1", "pullRequestUrl": None})
            else:
                self.answer({"error": f"{self.path} is not known here"}, 404)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
