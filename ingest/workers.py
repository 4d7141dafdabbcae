"""outcomes(): tasks done in this process and in others, in the order in which they were given."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain
from multiprocessing import connection, get_context, parent_process
from typing import Protocol, TypeVar

from ingest.errors import FlowpolicyError

POOL_FROM = 24 << 20  # bytes; another process takes half a second to start


class Task(Protocol):
    """Something to do; tasks of one name are done one after the other."""

    @property
    def name(self) -> str:
        """What it works on."""
        ...

    @property
    def size(self) -> int:
        """Bytes that it will read."""
        ...


T = TypeVar("T", bound=Task)
R = TypeVar("R")


def outcomes(
    tasks: Iterator[T], work: Callable[[T], R], workers: int | None
) -> Generator[tuple[T, R], None, None]:
    """Each task with its outcome, in order; in this process alone where there is little to do.

    Close it where not all are taken: then no process works on the rest any more.

    Args:
        tasks: what to do.
        work: does it; a function of a module, for it is sent to other processes.
        workers: processes, this one among them; None is one for each CPU.
    """
    workers = workers or _cpus()
    begun, size = [], 0
    while size < POOL_FROM and (task := next(tasks, None)):
        begun.append(task)
        size += task.size
    following = chain(begun, tasks)
    if workers > 1 and size >= POOL_FROM:
        yield from _pooled(following, work, workers)
    else:
        yield from ((task, work(task)) for task in following)


def _pooled(tasks: Iterator[T], work: Callable[[T], R], workers: int) -> Iterator[tuple[T, R]]:
    """The tasks in other processes and in this one, which need not wait for them to start."""
    # Not forked: threads of Arrow may run in this process.
    others = workers - 1
    pool = ProcessPoolExecutor(others, get_context("spawn"), initializer=_end_with_parent)
    pending: deque[tuple[T, Future[R]]] = deque()
    try:
        for task in tasks:
            # Blocks of one name wait for each other: the longer must find the shorter recorded.
            while any(task.name == other.name for other, _ in pending):
                yield _first(pending)
            if sum(not future.done() for _, future in pending) < 2 * others:
                pending.append((task, pool.submit(work, task)))
            else:
                future = Future[R]()
                future.set_result(work(task))
                pending.append((task, future))
            while len(pending) > 3 * workers or (pending and pending[0][1].done()):
                yield _first(pending)
        while pending:
            yield _first(pending)
    except BrokenProcessPool as error:
        raise FlowpolicyError(
            "a worker process was killed, perhaps for want of memory; run the command again, "
            "what was read is kept."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _first(pending: deque[tuple[T, Future[R]]]) -> tuple[T, R]:
    task, future = pending.popleft()
    return task, future.result()


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _end_with_parent() -> None:
    """A worker waits for work for ever, even where the parent was killed: then end it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
