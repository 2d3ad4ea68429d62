"""A hub on this machine: it serves folders as the real one does repositories, and keeps what it is asked."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch


@dataclass
class FakeHub:
    """`repositories`: commit and folder of each; `gated`: those whose files need a token."""

    repositories: dict[str, tuple[str, Path]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    broken: bool = False

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        self.asked.append(path)
        if self.broken:
            return 503, {}, b""
        if found := re.fullmatch(r"/api/models/([^/]+/[^/?]+)(?:/(revision|tree)/([^/?]+))?(\?.*)?", path):
            return self._tell(found[1], found[2], found[3])
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._give(found[1], found[3])
        return 404, {}, b""

    def _tell(self, name: str, kind: str | None, revision: str | None) -> tuple[int, dict[str, str], bytes]:
        if name not in self.repositories:
            return 401, {"X-Error-Code": "RepoNotFound"}, b""
        commit, folder = self.repositories[name]
        if revision not in (None, "main", commit):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        files = [(path.name, path.stat().st_size, digest(path)) for path in sorted(folder.iterdir())]
        if kind == "tree":
            document: Any = [
                {"type": "file", "path": path, "size": size, "oid": oid} for path, size, oid in files
            ]
        else:
            siblings = [{"rfilename": path, "size": size, "blobId": oid} for path, size, oid in files]
            document = {"id": name, "sha": commit, "siblings": siblings, "tags": [], "downloads": 0}
        return 200, {"Content-Type": "application/json"}, json.dumps(document).encode()

    def _give(self, name: str, file: str) -> tuple[int, dict[str, str], bytes]:
        if name in self.gated:
            return 401, {"X-Error-Code": "GatedRepo"}, b""
        commit, folder = self.repositories[name]
        path = folder / file
        if not path.is_file():
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b""
        return 200, {"X-Repo-Commit": commit, "ETag": f'"{digest(path)}"'}, path.read_bytes()


def digest(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


@contextmanager
def serve_hub(cache: Path) -> Iterator[FakeHub]:
    """A hub that huggingface_hub asks in this process, with a cache of its own."""
    from huggingface_hub import close_session, constants

    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), build_handler(hub))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    settings = {
        "ENDPOINT": endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": False,
    }
    close_session()
    try:
        with patch.multiple(constants, **settings), patch.dict("os.environ", {"no_proxy": "127.0.0.1"}):
            yield hub
    finally:
        close_session()
        server.shutdown()
        thread.join()
        server.server_close()


def build_handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # noqa: N802 (its name)
            status, headers, body = hub.answer(self.path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    return Handler
