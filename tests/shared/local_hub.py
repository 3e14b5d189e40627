"""A hub on this machine with one repository: what its clients ask of the real one, no more."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serving(
    repository: str, folder: Path, kind: Literal["datasets", "models"] = "datasets"
) -> Iterator[str]:
    """The address for HF_ENDPOINT, while the folder's files are those of the repository."""
    files = f"/{repository}/resolve/" if kind == "models" else f"/{kind}/{repository}/resolve/"
    own = {"about": f"/api/{kind}/{repository}", "files": files, "folder": folder}
    handler = type("Handler", (_Handler,), {**own, "repository": repository})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    repository: str
    about: str
    files: str
    folder: Path

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        tree = f"{self.about}/tree/"
        if path.startswith(tree):
            self._json([self._entry(place) for place in sorted(self._place(path, tree).iterdir())])
        elif path.startswith(self.about):
            self._json({"id": self.repository, "sha": COMMIT, "siblings": []})
        elif path.startswith(self.files):
            self._file(self._place(path, self.files))
        else:
            self._missing("RepoNotFound")

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    def _place(self, path: str, prefix: str) -> Path:
        """Behind the prefix and a revision."""
        return self.folder / path.removeprefix(prefix).partition("/")[2]

    def _entry(self, place: Path) -> dict[str, Any]:
        kind = "file" if place.is_file() else "directory"
        name, size = place.relative_to(self.folder).as_posix(), place.stat().st_size
        return {"type": kind, "path": name, "size": size, "oid": COMMIT}

    def _json(self, value: object) -> None:
        self._answer(200, json.dumps(value).encode())

    def _file(self, file: Path) -> None:
        if file.is_file():
            self._answer(200, file.read_bytes(), ETag=f'"{_digest(file)}"')
        else:
            self._missing("EntryNotFound")

    def _missing(self, what: str) -> None:
        self._answer(404, b"{}", **{"X-Error-Code": what})

    def _answer(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        length = str(len(content))
        for name, value in {**headers, "Content-Length": length, "X-Repo-Commit": COMMIT}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _digest(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()
