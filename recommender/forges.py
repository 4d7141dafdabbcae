"""Pull requests on GitHub, GitLab and Gitea, over their REST APIs.

What each asks for: docs.github.com/rest/pulls, docs.gitlab.com/api/merge_requests,
gitea.com/api/swagger (the API of Forgejo is the same).
"""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal
from urllib.parse import quote, urlencode, urlsplit

from ingest.errors import FlowpolicyError

Kind = Literal["github", "gitlab", "gitea"]
_SECONDS = 30.0
_TRIES = 3
_ROWS = 100  # of a list at once, the most that a forge gives
_LONGEST_WAIT_SECONDS = 60.0
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_REMOTE = re.compile(r"(?:[\w.+-]+@)?(?P<host>[\w.-]+):(?!/)(?P<path>.+)")
_PATHS = {"github": "/api/v3", "gitlab": "/api/v4", "gitea": "/api/v1"}
# What Git is told beside a token, over https.
USERS = {"github": "x-access-token", "gitlab": "oauth2", "gitea": "flowpolicy"}


class ForgeError(FlowpolicyError):
    """The forge does not answer, refuses, or has the branch protected."""


@dataclass(frozen=True, slots=True)
class Request:
    """A pull request: where it is, its number, and whether it is open, closed or merged."""

    url: str
    number: int
    state: Literal["open", "closed", "merged"]


@dataclass(frozen=True)
class Forge:
    """One project on a forge; `api` is the address of the API, without a slash at its end."""

    kind: Kind
    api: str
    project: str
    token: str = field(repr=False)

    @property
    def _root(self) -> str:
        if self.kind == "gitlab":
            return f"/projects/{quote(self.project, safe='')}"
        return f"/repos/{quote(self.project)}"

    def check_branch(self, branch: str) -> None:
        """See that a branch may be pushed to.

        Raises:
            ForgeError: it is the default branch, or protected.
        """
        if self._ask("GET", self._root).get("default_branch") == branch:
            raise ForgeError(f"{self.project}: {branch} is its default branch; choose another")
        middle = "/repository/branches/" if self.kind == "gitlab" else "/branches/"
        found = self._ask("GET", f"{self._root}{middle}{quote(branch, safe='')}", missing={})
        if found.get("protected") is True:
            raise ForgeError(f"{self.project}: {branch} is protected; choose another --branch")

    def find(self, branch: str, base: str) -> Request | None:
        """The newest pull request of a branch; None where there never was one.

        Raises:
            ForgeError: as all of this class.
        """
        if self.kind == "gitlab":
            query = {"source_branch": branch, "target_branch": base, "state": "all"}
            rows = self._ask("GET", f"{self._root}/merge_requests?{urlencode(query)}")
        elif self.kind == "github":
            head = f"{self.project.partition('/')[0]}:{branch}"
            query = {"head": head, "base": base, "state": "all"}
            rows = self._ask("GET", f"{self._root}/pulls?{urlencode(query)}")
        else:  # Gitea keeps one for each pair of branches here, the open one first
            names = f"{quote(base, safe='')}/{quote(branch, safe='')}"
            one = self._ask("GET", f"{self._root}/pulls/{names}", missing={})
            rows = [one] if one else []
        found = [self._request(row) for row in rows]
        return max(found, key=lambda one: (one.state == "open", one.number), default=None)

    def create(self, branch: str, base: str, title: str, body: str) -> Request:
        """Open a pull request."""
        if self.kind == "gitlab":
            fields = {"source_branch": branch, "target_branch": base, "description": body}
            return self._request(
                self._ask("POST", f"{self._root}/merge_requests", {**fields, "title": title})
            )
        fields = {"head": branch, "base": base, "title": title, "body": body}
        return self._request(self._ask("POST", f"{self._root}/pulls", fields))

    def update(self, request: Request, title: str, body: str, *, reopen: bool) -> Request:
        """Give a pull request another title and body; open it again where so asked."""
        if self.kind == "gitlab":
            fields = {"title": title, "description": body}
            fields |= {"state_event": "reopen"} if reopen else {}
            path = f"{self._root}/merge_requests/{request.number}"
            return self._request(self._ask("PUT", path, fields))
        fields = {"title": title, "body": body} | ({"state": "open"} if reopen else {})
        return self._request(self._ask("PATCH", f"{self._root}/pulls/{request.number}", fields))

    def comment(self, number: int, body: str, mark: str) -> None:
        """Leave a comment on a pull request, in the place of the one that begins with the mark.

        Where somebody quotes such a comment, the mark comes later.
        """
        if self.kind == "gitlab":
            path = f"{self._root}/merge_requests/{number}/notes"
        else:
            path = f"{self._root}/issues/{number}/comments"
        rows = self._pages(f"{path}?{'sort=asc&' if self.kind == 'gitlab' else ''}")
        mine = next((row["id"] for row in rows if str(row.get("body")).startswith(mark)), None)
        if mine is None:
            self._ask("POST", path, {"body": body})
        elif self.kind == "gitlab":
            self._ask("PUT", f"{path}/{mine}", {"body": body})
        else:
            self._ask("PATCH", f"{self._root}/issues/comments/{mine}", {"body": body})

    def _pages(self, listed: str) -> Iterator[Mapping[str, Any]]:
        """Each row of a list that comes in pages; a forge that knows none gives all, each time."""
        last = None
        for page in count(1):
            rows = self._ask("GET", f"{listed}per_page={_ROWS}&page={page}")
            if not rows or rows[-1]["id"] == last:
                return
            yield from rows
            last = rows[-1]["id"]

    def _request(self, row: Mapping[str, Any]) -> Request:
        if self.kind == "gitlab":
            state = {"opened": "open", "merged": "merged"}.get(str(row["state"]), "closed")
            return Request(str(row["web_url"]), int(row["iid"]), _state(state))
        merged = bool(row.get("merged_at") or row.get("merged"))
        return Request(
            str(row["html_url"]), int(row["number"]), "merged" if merged else _state(row["state"])
        )

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        missing: Any = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Any:
        """The answer as plain values; `missing`, where it is not null, stands for a 404."""
        for attempt in range(_TRIES):
            try:
                with _OPENER.open(self._asked(method, path, body), timeout=_SECONDS) as answer:
                    return json.loads(answer.read() or b"null")
            except urllib.error.HTTPError as error:
                with error:
                    wait = _wait_seconds(error)
                    if error.code == 404 and missing is not None:
                        return missing
                    soon = wait is not None and wait <= _LONGEST_WAIT_SECONDS
                    if not soon or attempt + 1 == _TRIES:
                        raise ForgeError(self._refusal(method, path, error, wait)) from error
                sleep(wait or 0.0)
            except (OSError, ValueError) as error:
                reason = getattr(error, "reason", error)
                raise ForgeError(
                    f"{self.api}: gives no usable answer ({reason}); check the address (--api)"
                ) from error
        raise AssertionError

    def _asked(
        self, method: str, path: str, body: Mapping[str, Any] | None
    ) -> urllib.request.Request:
        secret = {
            "github": ("Authorization", f"Bearer {self.token}"),
            "gitlab": ("Private-Token", self.token),
            "gitea": ("Authorization", f"token {self.token}"),
        }[self.kind]
        headers = dict([secret, ("Accept", "application/json"), ("User-Agent", "flowpolicy")])
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        return urllib.request.Request(  # noqa: S310 - forge() takes http and https only
            f"{self.api}{path}", data=data, headers=headers, method=method
        )

    def _refusal(
        self, method: str, path: str, error: urllib.error.HTTPError, wait: float | None
    ) -> str:
        what = f"{self.api}: {method} {path.partition('?')[0]} answered {error.code}"
        if wait is not None:
            return f"{what}: too many requests; try again in {wait / 60:.0f} minutes"
        if error.code == 401:
            return f"{what}: the token is not known; set a valid one in the environment"
        if error.code == 403:
            return f"{what}: the token may not; give it write access to pull requests and contents"
        if error.code == 404:
            return f"{what}: no such project for this token; check the remote's URL and the token"
        return f"{what}: {_said(error)}; see what the forge says of it"


def _state(text: Any) -> Literal["open", "closed", "merged"]:
    return "open" if text == "open" else "merged" if text == "merged" else "closed"


def _said(error: urllib.error.HTTPError) -> str:
    """The forge's own words, as one short line."""
    try:
        body = json.loads(error.read())
        text = str(body.get("message") or body.get("error") or error.reason)
    except (OSError, ValueError, AttributeError):
        text = str(error.reason)
    return " ".join(text.split())[:200]


def _wait_seconds(error: urllib.error.HTTPError) -> float | None:
    """How long a rate limit asks to wait; None where it is none."""
    after = error.headers.get("Retry-After", "")
    spent = error.headers.get("X-RateLimit-Remaining") == "0"
    if error.code != 429 and not (error.code == 403 and (after or spent)):
        return None
    if after.isdigit():
        return float(after)
    reset = error.headers.get("X-RateLimit-Reset") or error.headers.get("RateLimit-Reset") or ""
    return max(0.0, float(reset) - time.time()) if reset.isdigit() else _LONGEST_WAIT_SECONDS


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token elsewhere, so it is an error."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""


_OPENER = urllib.request.build_opener(_NoRedirect)


def forge(kind: Kind, remote: str, token: str, api: str | None = None) -> Forge:
    """The project behind a remote's URL.

    Args:
        kind: the forge's software.
        remote: https, ssh or `git@host:path`.
        token: for the API.
        api: address of the API, where it is not the usual one of the remote's host.

    Raises:
        ForgeError: the remote names no host, or the token would go over plain http.
    """
    scp = _REMOTE.fullmatch(remote)
    parts = urlsplit(remote)
    host = scp["host"] if scp else parts.hostname
    path = (scp["path"] if scp else parts.path).strip("/").removesuffix(".git")
    if api is None:
        if not host:
            raise ForgeError(f"{remote}: names no host; give the address of the API with --api")
        api = f"https://{host}{_PATHS[kind]}"
        if kind == "github" and host == "github.com":
            api = "https://api.github.com"
    where = urlsplit(api)
    if where.scheme != "https" and not (where.scheme == "http" and where.hostname in _LOOPBACK):
        raise ForgeError(f"{api}: not https, so the token is not sent; give an https address")
    return Forge(kind, api.rstrip("/"), path, token)
