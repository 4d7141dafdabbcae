"""The files that `enforce` changes: all of them or none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from ingest.errors import FlowpolicyError
from recommender.enforce import Enforced, enforced
from recommender.errors import PolicyError
from recommender.manifests import SUFFIXES


def enforce(paths: Sequence[Path], out: Path | None) -> dict[str, list[str]]:
    """Turn our policies in files and folders into the enforcing form.

    Every file is judged before the first is written, and each is replaced whole.

    Args:
        paths: files and folders, which are searched through.
        out: where copies go, by their place in the folder given; null changes them in place.

    Returns:
        The sentences of `Enforced`, and in `files` the paths that were written.

    Raises:
        FlowpolicyError: a path cannot be read or written, or two files would be one copy.
        PolicyError: a file cannot be changed, or a policy stands in both forms.
    """
    found: dict[Path, Enforced] = {}
    targets: dict[Path, Path] = {}
    for file, place in _files(paths):
        if file in found:
            continue
        found[file] = enforced(str(file), _text(file))
        target = file.resolve() if out is None else out / place
        if target in targets:
            raise FlowpolicyError(
                f"{file} and {targets[target]} would both be {target}; give their folder"
            )
        targets[target] = file
    _stand_once(found)
    written = []
    for target, file in targets.items():
        if out is not None or found[file].changed:
            _replace(target, found[file].text, like=file)
            written.append(str(target))
    return {
        "files": written,
        "changed": [line for one in found.values() for line in one.changed],
        "already": [line for one in found.values() for line in one.already],
        "left": [line for one in found.values() for line in one.left],
    }


def _files(paths: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Each file with its place below the path given."""
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file())
            if not inside:
                raise FlowpolicyError(f"{path}: no manifest in this folder; give another")
            yield from ((file, file.relative_to(path)) for file in inside)
        elif path.exists():
            yield path, Path(path.name)
        else:
            raise FlowpolicyError(f"{path}: no such file or folder; check the path")


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise FlowpolicyError(f"{file}: not UTF-8 text; give YAML or JSON") from error
    except OSError as error:
        raise FlowpolicyError(f"{file}: {error.strerror}; check its permissions") from error


def _stand_once(found: dict[Path, Enforced]) -> None:
    """Refuse where a changed policy would be there twice."""
    stood: dict[tuple[str, str, str, str], Path] = {}
    for file, one in found.items():
        for identity in one.objects:
            before = stood.setdefault(identity, file)
            changed = found[before].changed or one.changed
            if changed and list(one.objects).count(identity) + (before != file) > 1:
                _, kind, namespace, name = identity
                raise PolicyError(
                    f"{file}: {kind} {namespace}/{name} would stand twice, in {before} too; "
                    "remove one of them"
                )


def _replace(path: Path, text: str, like: Path) -> None:
    """Write a whole file or none, with the permissions of the one that it comes from."""
    aside = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(text.encode())
        shutil.copymode(like, aside)
        aside.replace(path)
    except OSError as error:
        raise FlowpolicyError(f"{path}: {error.strerror}; check its permissions") from error
