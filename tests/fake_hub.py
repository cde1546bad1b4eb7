"""A hub of models in a folder: the little of the Hugging Face protocol that a download speaks."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

Revisions = dict[str, Path]  # what each branch, tag or commit names


class Hub:
    """What is published, and every request that came."""

    def __init__(self, repositories: dict[str, Revisions]) -> None:
        self.repositories = repositories
        self.requests: list[str] = []
        self.url = ""

    @property
    def downloaded(self) -> set[str]:
        """The files whose content was asked for."""
        return {
            r.split("/", 6)[-1] for r in self.requests if r.startswith("GET") and "/resolve/" in r
        }


def commit_of(folder: Path) -> str:
    """Forty hexadecimal digits that follow from the content."""
    digest = hashlib.sha1()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


@contextmanager
def serving(repositories: dict[str, Revisions]) -> Iterator[Hub]:
    """A hub that answers on this machine's own network until the block ends."""
    hub = Hub(repositories)

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"] and len(parts) >= 6:
            repo, kind, revision, inside = "/".join(parts[2:4]), parts[4], parts[5], parts[6:]
        elif len(parts) >= 5 and parts[2] == "resolve":
            repo, kind, revision, inside = "/".join(parts[:2]), "resolve", parts[3], parts[4:]
        else:
            return self._send(404, b"{}")
        if repo not in self.hub.repositories:
            return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        revisions = self.hub.repositories[repo]
        known = {**revisions, **{commit_of(folder): folder for folder in revisions.values()}}
        if revision not in known:
            return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        return self._send_model(repo, kind, known[revision], "/".join(inside))

    def _send_model(self, repo: str, kind: str, folder: Path, inside: str) -> None:
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        names = {path.relative_to(folder).as_posix(): path for path in files}
        commit = commit_of(folder)
        if kind == "revision":
            siblings = [{"rfilename": name} for name in names]
            self._send_json({"id": repo, "sha": commit, "siblings": siblings})
        elif kind == "tree":
            self._send_json(
                [
                    {"type": "file", "path": name, "size": path.stat().st_size, "oid": _oid(path)}
                    for name, path in names.items()
                ]
            )
        elif inside in names:
            headers = {"X-Repo-Commit": commit, "ETag": f'"{_oid(names[inside])}"'}
            self._send(200, names[inside].read_bytes(), headers)
        else:
            self._send(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})

    def _send_json(self, document: object) -> None:
        self._send(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


def _oid(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
