"""SIGTERM while a batch job runs: what is at hand is finished, then it ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ingest.errors import FlowpolicyError

STOPPING = threading.Event()


class StoppedError(FlowpolicyError):
    """Somebody asked the job to end."""


def check() -> None:
    """End here if so asked.

    Raises:
        StoppedError: it was.
    """
    if STOPPING.is_set():
        raise StoppedError("stopped on SIGTERM after the block at hand; run it again to go on")


@contextmanager
def on_sigterm() -> Iterator[None]:
    """While the block runs, SIGTERM only asks; `check` ends what can be ended."""
    STOPPING.clear()
    before = signal.signal(signal.SIGTERM, lambda *_: STOPPING.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        STOPPING.clear()
