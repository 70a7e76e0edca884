"""A Hub on the loopback interface: repositories in memory, and faults on demand."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_" + "a" * 34


@dataclass
class Repo:
    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.commit("main", {})

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        content = {**self.files(branch), **files}
        sha = hashlib.sha1(repr((branch, sorted(content), len(self.commits))).encode()).hexdigest()
        self.commits[sha], self.branches[branch] = content, sha
        return sha

    def files(self, revision: str) -> dict[str, bytes]:
        return self.commits.get(self.branches.get(revision, revision), {})

    def sha(self, revision: str) -> str | None:
        sha = self.branches.get(revision, revision)
        return sha if sha in self.commits else None


class Hub:
    """What the server holds, and what it is to do wrong.

    `faults` maps a file's path to "drop" (break off halfway, then answer no more), "corrupt"
    (other bytes of the same length) or "short" (fewer bytes than stated beforehand).
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.faults: dict[str, str] = {}
        self.dropped: set[str] = set()
        self.requests: list[str] = []

    def add(self, name: str, folder: Path, prefix: str = "", **options) -> None:
        """Puts a folder's files into a repository."""
        files = {
            prefix + file.relative_to(folder).as_posix(): file.read_bytes()
            for file in folder.rglob("*")
            if file.is_file()
        }
        self.repos.setdefault(name, Repo(**options)).commit("main", files)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_) -> None:
        pass

    def do_HEAD(self) -> None:
        self._route("HEAD")

    def do_GET(self) -> None:
        self._route("GET")

    def do_POST(self) -> None:
        self._route("POST")

    def _route(self, method: str) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.hub.requests.append(f"{method} {path}")
        parts = path.strip("/").split("/")
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if parts[:2] == ["api", "models"]:
            return self._api(method, "/".join(parts[2:4]), parts[4:], body, parse_qs(url.query))
        if "resolve" in parts:
            at = parts.index("resolve")
            name = "/".join(parts[:at])
            return self._file(method, name, parts[at + 1], "/".join(parts[at + 2 :]))
        return self._error(404, "NotFound")

    def _authorised(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _repo(self, name: str) -> Repo | None:
        """The repository, or `None` after an answer that refuses it."""
        repo = self.hub.repos.get(name)
        if repo is None:
            self._error(404, "RepoNotFound")
        elif repo.private and not self._authorised():
            self._error(401, "RepoNotFound")
            return None
        return repo

    def _create(self, asked: dict) -> None:
        name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
        if not self._authorised():
            return self._error(401, "")
        if name in self.hub.repos:
            return self._json({"url": self._url(name)}, 409)
        self.hub.repos[name] = Repo(private=asked.get("visibility") == "private")
        return self._json({"url": self._url(name), "id": name})

    def _api(self, method: str, name: str, rest: list[str], body: bytes, query: dict) -> None:
        repo = self._repo(name)
        if repo is None:
            return None
        action, revision = (rest + ["", ""])[:2]
        if method == "POST" and not self._authorised():
            return self._error(401, "")
        if action == "branch":
            repo.branches.setdefault(revision, repo.branches["main"])
            return self._json({})
        sha = repo.sha(revision or "main")
        if sha is None:
            return self._error(404, "RevisionNotFound")
        if action == "preupload":
            asked = json.loads(body)["files"]
            modes = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked
            ]
            return self._json({"files": modes})
        if action == "commit":
            lines = [json.loads(line) for line in body.splitlines()]
            files = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            sha = repo.commit(revision, files)
            return self._json(
                {"commitUrl": f"{self._url(name)}/commit/{sha}", "commitOid": sha, "success": True}
            )
        files = repo.commits[sha]
        if action == "tree":
            prefix = "/".join(rest[2:])
            entries = [
                {"type": "file", "path": p, "size": len(c), "oid": hashlib.sha1(c).hexdigest()}
                for p, c in files.items()
                if p.startswith(prefix)
            ]
            return self._json(entries)
        siblings = [{"rfilename": p} for p in files]
        return self._json({"id": name, "sha": sha, "private": repo.private, "siblings": siblings})

    def _file(self, method: str, name: str, revision: str, path: str) -> None:
        repo = self._repo(name)
        if repo is None:
            return None
        if repo.gated:
            return self._error(403, "GatedRepo")
        sha = repo.sha(revision)
        if sha is None:
            return self._error(404, "RevisionNotFound")
        content = repo.commits[sha].get(path)
        if content is None:
            return self._error(404, "EntryNotFound", {"X-Repo-Commit": sha})
        fault = self.hub.faults.get(path) if method == "GET" else None
        if fault == "drop" and path in self.hub.dropped:
            self.close_connection = True
            return None
        digest = hashlib.sha256 if path.endswith(".safetensors") else hashlib.sha1
        self.send_response(200)
        self.send_header("X-Repo-Commit", sha)
        self.send_header("ETag", f'"{digest(content).hexdigest()}"')
        if fault == "corrupt":
            content = content[:-64] + bytes(64)
        if fault == "short":
            content = content[: len(content) // 2]
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if method == "GET":
            self.wfile.write(content[: len(content) // 2] if fault == "drop" else content)
        if fault == "drop":
            self.hub.dropped.add(path)
            self.close_connection = True
        return None

    def _url(self, name: str) -> str:
        return f"http://{self.headers['Host']}/{name}"

    def _json(self, answer: object, status: int = 200) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _error(self, status: int, code: str, headers: dict | None = None) -> None:
        self.send_response(status)
        for key, value in {
            **(headers or {}),
            "X-Error-Code": code,
            "X-Error-Message": code,
        }.items():
            if value:
                self.send_header(key, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def serve():
    """Runs a Hub; yields it and its address."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
