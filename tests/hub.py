"""A hub on this machine: the endpoints that ``huggingface_hub`` asks, over files in memory, and what can go wrong."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34
INFO = re.compile(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?")
TREE = re.compile(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)(?:/.*)?")
FILE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class Hub:
    """What is served, and what was asked.

    Attributes:
        models: name -> path -> bytes. revisions: names of the one commit.
        gated: models that ask for a token; token: the right one.
        cut: path -> how many times only the first half of what is asked is sent, before the line drops.
        asked: method, path and range of every request. url: of the server.
    """

    models: dict[str, Mapping[str, bytes]]
    revisions: tuple[str, ...] = ("main", "v1", COMMIT)
    gated: frozenset[str] = frozenset()
    token: str = "right"
    cut: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub while the block runs."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path, self.headers.get("Range", "")))
        found = FILE.fullmatch(path) or TREE.fullmatch(path) or INFO.fullmatch(path)
        name, revision = (found[1], found[2] or "main") if found else ("", "")
        files = self.hub.models.get(name)
        if files is None:
            self._wrong(404, "RepoNotFound", "Repository not found")
        elif name in self.hub.gated and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._wrong(403, "GatedRepo", f"Access to model {name} is restricted")
        elif revision not in self.hub.revisions:
            self._wrong(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        elif found and found.re is FILE:
            self._file(found[3], files.get(found[3]), body=body)
        elif found and found.re is TREE:
            rows = [{"type": "file", "oid": _blob(d), "size": len(d), "path": path} for path, d in files.items()]
            self._json(rows, body=body)
        else:
            siblings = [{"rfilename": path} for path in files]
            self._json({"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings}, body=body)

    def _file(self, path: str, data: bytes | None, *, body: bool) -> None:
        if data is None:
            self._wrong(404, "EntryNotFound", f"{path} does not exist")
            return
        begin = int((re.match(r"bytes=(\d+)-", self.headers.get("Range", "")) or [0, 0])[1])
        rest = data[begin:]
        self.send_response(206 if begin else 200)
        self.send_header("ETag", f'"{_blob(data)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(rest)))
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if body and self.hub.cut.get(path, 0):
            self.hub.cut[path] -= 1
            self.wfile.write(rest[: len(rest) // 2])
            self.close_connection = True
        elif body:
            self.wfile.write(rest)

    def _json(self, value: object, *, body: bool) -> None:
        text = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if body:
            self.wfile.write(text)

    def _wrong(self, code: int, kind: str, words: str) -> None:
        self.send_response(code)
        self.send_header("X-Error-Code", kind)
        self.send_header("X-Error-Message", words)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _blob(data: bytes) -> str:
    """The name that git gives these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
