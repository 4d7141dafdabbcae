"""place(): a folder or file on disk or in an object store, by one kind of path.

On disk it is a `pathlib.Path`. In S3, Google Cloud Storage and Azure it is a path of
universal-pathlib, which has the same methods; its packages are extras, for they are large.
Credentials are found where those packages look for them: the environment, profiles, the machine's
role. What a bucket lists is never cached, for others write to it too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from ingest.errors import FlowpolicyError

# Scheme -> the extra that has its packages.
SCHEMES = {"s3": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az"}
# Where errors come from that tell of a network, a credential or a permission.
_CLOUDS = ("aiohttp", "aiobotocore", "azure", "botocore", "gcsfs", "google", "requests", "s3fs")


def is_remote(name: str | Path) -> bool:
    """Whether the name has a scheme, as `s3://`."""
    return "://" in str(name)


def place(name: str | Path, trouble: type[FlowpolicyError]) -> Path:
    """The path of that name.

    Args:
        name: a path, or SCHEME://BUCKET/PATH.
        trouble: the class of what is raised.

    Raises:
        FlowpolicyError: of the class `trouble`; no such scheme, or its packages are missing.
    """
    if not isinstance(name, str):
        return name
    if not is_remote(name):
        return Path(name)
    scheme = name.partition("://")[0]
    if scheme not in SCHEMES:
        raise trouble(
            f"{name}: not a place that is known; name a path, s3://, gs:// or az://, or read logs "
            "that lie there with --engine spark://HOST:PORT."
        )
    try:
        from upath import UPath

        found = UPath(name, use_listings_cache=False)
        assert found.fs is not None  # where its package is missed
    except ImportError as error:
        raise trouble(
            f"{name}: object stores need more packages; install them with "
            f"`pip install 'flowpolicy[{SCHEMES[scheme]}]'`."
        ) from error
    return cast("Path", found)


def filesystem(path: Path) -> Any | None:
    """The fsspec filesystem of a path; None where it is on disk."""
    return None if isinstance(path, Path) else path.fs


def put(path: Path, data: bytes) -> None:
    """Write an object. Every store shows it whole once it is there, and until then the old one."""
    filesystem_ = filesystem(path)
    assert filesystem_ is not None
    filesystem_.pipe_file(inside(path), data)


def inside(path: Path) -> str:
    """The path as its filesystem knows it."""
    return str(path) if isinstance(path, Path) else path.path


@contextmanager
def reached(name: object, trouble: type[FlowpolicyError]) -> Iterator[None]:
    """While an object store is spoken to: its many errors as one.

    Raises:
        FlowpolicyError: of the class `trouble`.
    """
    try:
        yield
    except Exception as error:
        module = type(error).__module__.partition(".")[0]
        if not is_remote(str(name)) or (module not in _CLOUDS and not isinstance(error, OSError)):
            raise
        raise trouble(
            f"{name}: can't be reached ({str(error)[:300]}); check the name, the credentials and "
            "the permissions."
        ) from error
