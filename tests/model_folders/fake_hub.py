"""An HTTP server with the part of the Hugging Face protocol that a download uses."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class Hub:
    """Repositories (name -> revision -> folder), and the requests that were received."""

    def __init__(self, repositories):
        self.repositories = repositories
        self.requests = []
        self.url = ""

    @property
    def downloaded(self):
        """The files whose content was requested."""
        return {
            r.split("/", 6)[-1] for r in self.requests if r.startswith("GET") and "/resolve/" in r
        }


def commit_of(folder):
    """A commit id made from the content of a folder."""
    digest = hashlib.sha1(usedforsecurity=False)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


@contextmanager
def serving(repositories):
    """A hub on a local port, until the block ends."""
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
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self._answer()

    def do_HEAD(self):
        self._answer()

    def log_message(self, *_):
        pass

    def _answer(self):
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

    def _send_model(self, repo, kind, folder, inside):
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

    def _send_json(self, document):
        self._send(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _send(self, status, content, headers=None):
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


def _oid(path):
    return hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()
