"""A hub on this machine, just enough of one for the hub's own client to fetch a model folder from it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextlib.contextmanager
def serving(folder: Path, name: str, *, gated: bool = False) -> Iterator[tuple[str, list[str]]]:
    """Serve the files of ``folder`` as the model ``name``; the address, and the paths asked for so far."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            path = self.path.partition("?")[0]
            if body:
                asked.append(path)
            if gated:
                self._send(403, b"{}", {"X-Error-Code": "GatedRepo"}, body)
            elif path.startswith(f"/api/models/{name}"):
                self._send(200, json.dumps(self._info()).encode(), {"Content-Type": "application/json"}, body)
            elif path.startswith(f"/{name}/resolve/") and (folder / path.split("/", 5)[5]).is_file():
                content = (folder / path.split("/", 5)[5]).read_bytes()
                etag = hashlib.sha256(content).hexdigest()
                self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, body)
            else:
                self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body)

        def _info(self) -> dict[str, Any]:
            files = [
                {"rfilename": file.relative_to(folder).as_posix(), "size": file.stat().st_size, "blobId": "0" * 40}
                for file in sorted(folder.rglob("*"))
                if file.is_file()
            ]
            return {"id": name, "modelId": name, "sha": COMMIT, "siblings": files, "private": False, "tags": []}

        def _send(self, status: int, content: bytes, headers: dict[str, str], body: bool) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on the streams."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
