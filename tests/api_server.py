"""An API server of few words, on loopback: pages of lists, and the answers that one dreads."""

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Answer = tuple[int, dict[str, Any]]


@dataclass
class Api:
    """`lists` are objects by path; `trouble` is asked first and may answer in their place."""

    url: str
    lists: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    trouble: Callable[[str, dict[str, str]], Answer | None] = lambda _path, _query: None
    asked: list[tuple[str, str]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)

    def kubeconfig(self, folder: Path) -> Path:
        """A kubeconfig that leads here."""
        path = folder / "kubeconfig.json"
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "c", "cluster": {"server": self.url}}],
                    "users": [{"name": "u", "user": {"token": "a-token"}}],
                    "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
                    "current-context": "here",
                }
            )
        )
        return path

    def answer(self, path: str, query: dict[str, str]) -> Answer:
        """What a list request gets; unknown paths are CRDs that are not there."""
        if path not in self.lists:
            return 404, {"message": "the server could not find the requested resource"}
        start, limit = int(query.get("continue", "0")), int(query["limit"])
        items = self.lists[path]
        more = {"continue": str(start + limit)} if start + limit < len(items) else {}
        return 200, {"metadata": more, "items": items[start : start + limit]}


@contextmanager
def served() -> Iterator[Api]:
    """The server while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {key: value[0] for key, value in parse_qs(url.query).items()}
            api.asked.append(("GET", url.path))
            api.tokens.add(self.headers.get("Authorization", ""))
            status, body = api.trouble(url.path, query) or api.answer(url.path, query)
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    api = Api(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
