"""A hub on this machine that answers as the Hugging Face hub does, for one folder of models."""

import contextlib
import hashlib
import http.server
import json
import pathlib
import threading
from collections.abc import Iterator
from typing import NamedTuple

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(NamedTuple):
    """Where it listens, and the paths that it was asked for."""

    address: str
    requests: list[str]


@contextlib.contextmanager
def serve(models: pathlib.Path) -> Iterator[Hub]:
    """Serves the folders in `models`, NAME or OWNER/NAME, until the block ends."""
    requests: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self._answer(has_body=True)

        def do_HEAD(self):
            requests.append(self.path)
            self._answer(has_body=False)

        def log_message(self, *arguments):
            pass

        def _answer(self, has_body: bool):
            found = _find(models, self.path.split("?")[0])
            content = b'{"error": "Repository not found"}' if found is None else found
            self.send_response(404 if found is None else 200)
            if found is None:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Content-Type", "application/json")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            self.end_headers()
            if has_body:
                self.wfile.write(content)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Hub(f"http://127.0.0.1:{server.server_port}", requests)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _find(models: pathlib.Path, path: str) -> bytes | None:
    """The content of an answer: facts of a model, the list of its files, or one of these."""
    if path.startswith("/api/models/"):
        name, _, rest = path.removeprefix("/api/models/").partition("/revision/")
        if "/tree/" in name:
            return _files(models / name.partition("/tree/")[0])
        if (models / name).is_dir():
            return json.dumps({"id": name, "sha": COMMIT, "siblings": []}).encode()
        return None
    name, _, file = path.removeprefix("/").partition(f"/resolve/{COMMIT}/")
    where = models / name / file
    return where.read_bytes() if file and where.is_file() else None


def _names(folder: pathlib.Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()]


def _files(folder: pathlib.Path) -> bytes:
    facts = [
        {
            "type": "file",
            "path": name,
            "size": (folder / name).stat().st_size,
            "oid": hashlib.sha1(name.encode()).hexdigest(),
        }
        for name in _names(folder)
    ]
    return json.dumps(facts).encode()
