"""How far a command is: a bar on a terminal, elsewhere a plain line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from ingest.load import Progress
from recommender.commands import options, stopping
from recommender.tracked import Listener, told_to

_EVERY = 10.0  # seconds between plain lines


@contextmanager
def shown() -> Iterator[Callable[[Progress], None]]:
    """Takes how far a run is, and shows it on standard error; a run that is to stop ends there."""
    with _bar() if sys.stderr.isatty() else nullcontext(_lines()) as show:

        def shown_or_stopped(now: Progress) -> None:
            show(now)
            stopping.check()

        yield shown_or_stopped


@contextmanager
def _bar() -> Iterator[Callable[[Progress], None]]:
    from rich import progress
    from rich.console import Console

    with progress.Progress(
        progress.BarColumn(),
        progress.DownloadColumn(binary_units=True),
        progress.TextColumn("{task.fields[rate]:,.0f} lines/s  {task.fields[rejects]:,} rejects"),
        progress.TimeRemainingColumn(elapsed_when_finished=True),
        console=Console(stderr=True),
        redirect_stdout=False,  # or an answer would go where the bar is
        transient=True,
    ) as bars:
        bar = bars.add_task("", total=None, rate=0, rejects=0)
        began = time.monotonic()

        def show(now: Progress) -> None:
            rate = now.lines / max(time.monotonic() - began, 1e-9)
            bars.update(bar, completed=now.bytes, total=now.total, rate=rate, rejects=now.rejects)
            bars.refresh()

        yield show


def _lines() -> Callable[[Progress], None]:
    began = time.monotonic()
    said = began

    def show(now: Progress) -> None:
        nonlocal said
        moment = time.monotonic()
        if moment - said < _EVERY:
            return
        said = moment
        of = "" if now.total is None else f" of {now.total >> 20:,}"
        rate = now.lines / (moment - began)
        options.say(
            f"read {now.bytes >> 20:,}{of} MiB, {now.lines:,} lines, {rate:,.0f} lines/s, "
            f"{now.rejects:,} rejects"
        )

    return show


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Says what is being done, how far it is and how long it will take, where that can be told."""
    with _steps(what) if sys.stderr.isatty() else nullcontext(_said(what)) as show, told_to(show):
        yield


@contextmanager
def _steps(what: str) -> Iterator[Listener]:
    from rich import progress
    from rich.console import Console

    with progress.Progress(
        progress.SpinnerColumn(),
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        redirect_stdout=False,  # or an answer would go where the bar is
        transient=True,
    ) as bars:
        bar = bars.add_task(what, total=None)

        def show(step: str, done: int, of: int) -> None:
            if bars.tasks[0].description != step or done < bars.tasks[0].completed:
                bars.reset(bar, total=of, description=step)
            bars.update(bar, completed=done)

        yield show


def _said(what: str) -> Listener:
    """Plain lines; the time left is of the step at hand, and told once a tenth of it is done."""
    began = said = time.monotonic()
    step_began, last = began, what

    def show(step: str, done: int, of: int) -> None:
        nonlocal said, step_began, last
        moment = time.monotonic()
        if step != last or not done:
            step_began, last = moment, step
        if moment - said < _EVERY:
            return
        said = moment
        left = (moment - step_began) * (of - done) / max(done, 1)
        ahead = f", about {left:,.0f} s left" if 10 * done >= of else ""
        options.say(f"{step}: {done:,} of {of:,}{ahead}")

    return show
