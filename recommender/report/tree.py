"""Policies in a folder of a repository: what a proposal writes there, and what people changed.

    PATH/<namespace>/<workload>.yaml   the policies, comments of people kept
    PATH/<namespace>/flowpolicy.lock   what was proposed last: a digest a file, and the edges
    kustomization.yaml                 in PATH or a namespace: its resources follow

Only files whose content is what the lock says are ours to change: a file that a person edited,
removed, or had there before stays as it is, and is named.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recommender.frames import Row, of_class
from recommender.manifests import objects_of
from recommender.propose import named
from recommender.recommend import Recommendation
from recommender.report.files import NAME, policy_texts, proposal_path
from recommender.report.keeping import kustomization, rewritten

LOCK = "flowpolicy.lock"
SCHEMA = "flowpolicy/lock/1"
Wanted = tuple[Sequence[dict[str, Any]], str]  # the manifests of a file, and its text
_KUSTOMIZE = ("kustomization.yaml", "kustomization.yml", "Kustomization")


@dataclass(frozen=True, slots=True)
class Lock:
    """What was proposed last in a namespace: digests by file name, and the edges behind it."""

    files: Mapping[str, str]
    edges: tuple[tuple[str, ...], ...]

    @property
    def text(self) -> str:
        """As it stands in the file; no instant in it, so that it changes with its content only."""
        files, edges = dict(sorted(self.files.items())), sorted(self.edges)
        return json.dumps({"schema": SCHEMA, "files": files, "edges": edges}, indent=1) + "\n"


@dataclass(frozen=True, slots=True)
class Change:
    """What is to happen in one namespace: files to write (null removes), by path in the folder.

    `by_hand` are files that people changed, which stay.
    """

    namespace: str
    texts: Mapping[Path, str | None]
    by_hand: tuple[str, ...]

    def apply(self, folder: Path) -> None:
        """Write the files."""
        for path, text in self.texts.items():
            target = folder / path
            if text is None:
                target.unlink(missing_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, encoding="utf-8")


def changes(folder: Path, found: Recommendation, *, overwrite: bool = False) -> Iterator[Change]:
    """What the proposals change in the folder, by namespace; unchanged files are not among it.

    Each change takes the ones before it as done: apply one before the next is asked for.
    """
    texts_of = policy_texts(found)
    wanted: dict[str, dict[str, Wanted]] = {}
    for proposal, manifests in found.written:
        path = proposal_path(proposal)
        wanted.setdefault(path.parts[0], {})[path.name] = manifests, texts_of[path]
    scope = found.scope
    whole = not scope.namespaces
    left = {name for name in locked(folder) if whole and name not in scope.excluded}
    edges = edges_by_namespace(of_class(found.watched.edges, "wanted"))
    for namespace in sorted(wanted.keys() | left):
        texts, by_hand = _changed(
            folder, namespace, wanted.get(namespace, {}), edges.get(namespace, ()), overwrite
        )
        yield Change(namespace, texts, tuple(by_hand))


def locked(folder: Path) -> list[str]:
    """The namespaces of which the folder has proposals, sorted."""
    found = (path.parent.name for path in folder.glob(f"*/{LOCK}"))
    return sorted(name for name in found if NAME.fullmatch(name))


def read_lock(folder: Path, namespace: str) -> Lock:
    """What was proposed last; nothing where there is no lock, or none that can be read."""
    try:
        body = json.loads((folder / namespace / LOCK).read_text(encoding="utf-8"))
        files = {str(k): str(v) for k, v in body["files"].items() if NAME.fullmatch(str(k))}
        edges = tuple(tuple(map(str, edge)) for edge in body["edges"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Lock({}, ())
    return Lock(files, edges)


def edges_by_namespace(rows: Sequence[Row]) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Wanted edges (client, server, protocol, port) by the namespaces of their workloads."""
    found: dict[str, set[tuple[str, ...]]] = {}
    for row in rows:
        port = "" if row["port"] is None else str(int(row["port"]))
        edge = (named(row, "client"), named(row, "server"), str(row["protocol"] or ""), port)
        for role in ("client", "server"):
            if row[f"{role}_type"] == "workload":
                found.setdefault(str(row[f"{role}_namespace"]), set()).add(edge)
    return {namespace: tuple(sorted(edges)) for namespace, edges in found.items()}


def digest(bodies: Sequence[Mapping[str, Any]]) -> str:
    """A digest of what objects say, however they are written."""
    plain = json.dumps(list(bodies), sort_keys=True, default=str)
    return hashlib.sha256(plain.encode()).hexdigest()


def state(path: Path) -> str | None:
    """The digest of a file of manifests; None where it is not there, `""` where it is broken."""
    if not path.exists():
        return None
    bodies = objects_of(path)
    return "" if bodies is None else digest(bodies)


def hand_made(folder: Path, namespace: str) -> list[str]:
    """The files of a namespace that are not what was proposed last, with what was done to them."""
    found = []
    for name, was in sorted(read_lock(folder, namespace).files.items()):
        now = state(folder / namespace / name)
        if now != was:
            found.append(f"{namespace}/{name} {'removed' if now is None else 'changed'} by hand")
    return found


def _changed(
    folder: Path,
    namespace: str,
    wanted: Mapping[str, Wanted],
    edges: tuple[tuple[str, ...], ...],
    overwrite: bool,
) -> tuple[dict[Path, str | None], list[str]]:
    lock = read_lock(folder, namespace)
    texts: dict[Path, str | None] = {}
    by_hand, files = [], {}
    for name in sorted(wanted.keys() | lock.files.keys()):
        path, was = Path(namespace, name), lock.files.get(name)
        now, asked = state(folder / path), digest(wanted[name][0]) if name in wanted else None
        if now != asked and now != was and not overwrite:
            by_hand.append(f"{path} {'removed' if now is None else 'changed'} by hand")
            if was is not None:
                files[name] = was
            continue
        if asked is not None:
            files[name] = asked
        if now != asked:
            texts[path] = _text(folder / path, *wanted[name]) if name in wanted else None
    standing = _listed(folder, namespace, texts)
    texts |= standing
    fresh = Lock(files, edges if files else ())
    at = Path(namespace, LOCK)
    if files and (fresh.files != lock.files or (texts and fresh != lock) or _more(fresh, lock)):
        texts[at] = fresh.text
    elif not files and (folder / at).exists():
        texts[at] = None
    return texts, by_hand


def _more(fresh: Lock, lock: Lock) -> bool:
    """Whether there are edges that the last proposal did not know; fewer are no news."""
    return not set(fresh.edges) <= set(lock.edges)


def _text(path: Path, manifests: Sequence[dict[str, Any]], text: str) -> str:
    return rewritten(path.read_text(encoding="utf-8"), manifests, text) if path.exists() else text


def _listed(folder: Path, namespace: str, texts: Mapping[Path, str | None]) -> dict[Path, str]:
    """The kustomization that lists the changed files, itself changed; nothing without one."""
    if not texts:
        return {}
    for where in (Path(namespace), Path()):
        for name in _KUSTOMIZE:
            if (folder / where / name).is_file():
                resources = {
                    str(p.relative_to(where)): text is not None for p, text in texts.items()
                }
                old = (folder / where / name).read_text(encoding="utf-8")
                new = kustomization(old, resources, folder / where / name)
                return {where / name: new} if new != old else {}
    return {}
