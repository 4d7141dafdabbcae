"""A forge on loopback: a real Git server (git http-backend), and APIs as their contracts say.

The answers have the fields that docs.github.com/rest/pulls, docs.gitlab.com/api/merge_requests and
Gitea's swagger name, as far as they are read.
"""

import base64
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "s3cret-token"
_BACKEND = (
    Path(
        subprocess.run(
            ["git", "--exec-path"], capture_output=True, text=True, check=True
        ).stdout.strip()
    )
    / "git-http-backend"
)
AUTHORISED = {
    "github": ("Authorization", f"Bearer {TOKEN}"),
    "gitlab": ("Private-Token", TOKEN),
    "gitea": ("Authorization", f"token {TOKEN}"),
}
Answer = tuple[int, dict[str, str], Any]


@dataclass
class ForgeServer:
    """One project, `team/policies`; `trouble` may answer an API request in its place."""

    kind: str
    folder: Path
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    comments: list[dict[str, Any]] = field(default_factory=list)
    protected: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    trouble: Callable[[str, str], Answer | None] = lambda _method, _path: None

    @property
    def remote(self) -> str:
        return f"{self.url}/team/policies.git"

    @property
    def api(self) -> str:
        return f"{self.url}/api"

    def git(self, *words: str) -> str:
        """Git in the server's own repository."""
        done = subprocess.run(
            ["git", *words],
            cwd=self.folder / "team/policies.git",
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    # --- the API -------------------------------------------------------------------------------

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Answer:
        root = "/projects/team%2Fpolicies" if self.kind == "gitlab" else "/repos/team/policies"
        if not path.startswith(root):
            return 404, {}, {"message": "Not Found"}
        rest = path.removeprefix(root)
        if rest == "":
            return 200, {}, {"default_branch": "main"}
        if "/branches/" in rest:
            name = unquote(rest.rpartition("/branches/")[2])
            return 200, {}, {"name": name, "protected": name in self.protected}
        if rest.endswith(("/notes", "/comments")):
            return self._comments(method, query, body)
        if "/comments/" in rest or "/notes/" in rest:
            self.comments[int(rest.rpartition("/")[2]) - 1]["body"] = body["body"]
            return 200, {}, {}
        return self._requests(method, rest, query, body)

    def _comments(self, method: str, query: dict[str, str], body: Any) -> Answer:
        if method == "POST":
            self.comments.append({"id": len(self.comments) + 1, "body": body["body"]})
        if self.kind == "gitea":  # it gives them all
            return 200, {}, self.comments
        rows = int(query.get("per_page", 30))
        first = (int(query.get("page", 1)) - 1) * rows
        return 200, {}, self.comments[first : first + rows]

    def _requests(self, method: str, rest: str, query: dict[str, str], body: Any) -> Answer:
        if method == "POST":
            row = {"number": len(self.requests) + 1, "state": "open", "merged": False, **body}
            row["branch"] = row.get("head") or row.get("source_branch")
            self.requests.append(row)
            return 201, {}, self._shown(row)
        if method in ("PATCH", "PUT"):
            row = self.requests[int(rest.rpartition("/")[2]) - 1]
            row.update(body)
            if body.get("state_event") == "reopen":
                row["state"] = "open"
            return 200, {}, self._shown(row)
        if self.kind == "gitea":
            branch = unquote(rest.rpartition("/")[2])
            rows = [row for row in self.requests if row["branch"] == branch]
            return (200, {}, self._shown(rows[-1])) if rows else (404, {}, {"message": "none"})
        wanted = query.get("source_branch") or query["head"].partition(":")[2]
        return 200, {}, [self._shown(row) for row in self.requests if row["branch"] == wanted]

    def _shown(self, row: dict[str, Any]) -> dict[str, Any]:
        url = f"{self.url}/team/policies/pull/{row['number']}"
        if self.kind == "gitlab":
            state = "merged" if row["merged"] else "opened" if row["state"] == "open" else "closed"
            return {"iid": row["number"], "web_url": url, "state": state}
        shown = {"number": row["number"], "html_url": url, "state": row["state"]}
        return {**shown, "merged_at": "2026-01-01T00:00:00Z" if row["merged"] else None}

    # --- Git -----------------------------------------------------------------------------------

    def backend(self, handler: BaseHTTPRequestHandler, path: str, query: str, data: bytes) -> None:
        done = subprocess.run(
            [_BACKEND],
            input=data,
            capture_output=True,
            check=True,
            env={
                **os.environ,
                "GIT_PROJECT_ROOT": str(self.folder),
                "GIT_HTTP_EXPORT_ALL": "1",
                "REMOTE_USER": "flowpolicy",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": handler.command,
                "CONTENT_TYPE": handler.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(data)),
                "HTTP_CONTENT_ENCODING": handler.headers.get("Content-Encoding", ""),
            },
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        lines = [line.split(": ", 1) for line in head.decode().splitlines()]
        status = next((value for key, value in lines if key == "Status"), "200 OK")
        handler.send_response(int(status.split()[0]))
        for key, value in lines:
            if key != "Status":
                handler.send_header(key, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


def _handler(forge: ForgeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            data = self._data()
            if not url.path.startswith("/api/"):
                self._git(url.path, url.query, data)
                return
            forge.asked.append(f"{self.command} {url.path}")
            path = url.path.removeprefix("/api")
            query = {key: value[0] for key, value in parse_qs(url.query).items()}
            name, value = AUTHORISED[forge.kind]
            answer = forge.trouble(self.command, path)
            if answer is None and self.headers.get(name) != value:
                answer = 401, {}, {"message": "Bad credentials"}
            self._send(
                *(answer or forge.answer(self.command, path, query, json.loads(data or b"null")))
            )

        do_POST = do_PATCH = do_PUT = do_GET  # noqa: N815

        def _git(self, path: str, query: str, data: bytes) -> None:
            word = self.headers.get("Authorization", "").removeprefix("Basic ")
            if base64.b64decode(word).decode().partition(":")[2] != TOKEN:
                self._send(401, {"WWW-Authenticate": 'Basic realm="git"'}, {})
                return
            forge.backend(self, path, query, data)

        def _data(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _send(self, status: int, headers: dict[str, str], body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            for key, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@contextmanager
def served(kind: str, folder: Path) -> Iterator[ForgeServer]:
    """The forge while the block runs, with an empty project."""
    forge = ForgeServer(kind, folder)
    bare = folder / "team" / "policies.git"
    bare.mkdir(parents=True)
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(bare)], check=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(forge))
    forge.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield forge
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
