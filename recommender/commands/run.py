"""`flowpolicy run`: the batch job."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from recommender.commands import options, stopping

_SECONDS_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
_WANTED_WOULD_BE_DENIED, _REJECTED = 11, 12


@dataclass
class Outcome:
    """What came of a step: its exit code, seconds, the JSON that it printed, what it said."""

    step: str
    code: int
    seconds: float
    found: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    error: str | None = None

    @property
    def word(self) -> str:
        """`done`, `answered` (10 and above) or `failed`."""
        return "done" if self.code == 0 else "answered" if self.code >= 10 else "failed"


def _schema(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from recommender.commands import steps

        click.echo(json.dumps(steps.schema(), indent=2))
        ctx.exit()


@click.command(
    epilog="\b\nExample:\n  flowpolicy run --config data/samples/flowpolicy.yaml",
    short_help="Run the batch job that a file describes.",
)
@click.option(
    "--config",
    "path",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="What to do, as YAML.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Form of the log on standard error: one line a step.",
)
@click.option(
    "--schema",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_schema,
    help="Show the JSON schema of the file and exit.",
)
def command(path: Path, log_format: str) -> None:
    """Run the batch job that a file describes.

    The keys of a step are the long options of its command. Tokens come from the environment, never
    from the file. A step that fails ends the run with its exit code; answers do not. The run exits
    11 where `check` found wanted traffic that would be denied, 12 where `ingest` was strict and met
    a reject, and else 0, also where policies differ or have drifted.

    Two runs never meet: the second one fails at once. SIGTERM finishes the block at hand.
    """
    from recommender.commands import steps
    from recommender.manifests import read_document

    config = steps.checked(read_document(path), path)
    outcomes: list[Outcome] = []
    with _locked(config), stopping.on_sigterm():
        for name in steps.steps():
            if name in config:
                outcomes.append(_step(name, steps.words(name, config)))
                _log(outcomes[-1], log_format)
                if outcomes[-1].word == "failed":
                    break
        failure = _publish(config, outcomes)
    failed = next((one for one in outcomes if one.word == "failed"), None)
    if failed is not None:
        sys.exit(failed.code)
    if failure is not None:
        raise failure
    kinds = {one.code for one in outcomes}
    sys.exit(next((c for c in (_WANTED_WOULD_BE_DENIED, _REJECTED) if c in kinds), 0))


def _step(name: str, words: list[str]) -> Outcome:
    from ingest.errors import FlowpolicyError
    from recommender.commands import steps
    from recommender.report.lines import printable

    out, said, began = io.StringIO(), io.StringIO(), time.monotonic()
    code, error = 0, None
    try:
        stopping.check()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
            steps.steps()[name].main(words, prog_name=name, standalone_mode=False)
        stopping.check()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except click.ClickException as refused:
        code, error = refused.exit_code, refused.format_message()
    except FlowpolicyError as failed:
        code, error = 1, str(failed)
    text = out.getvalue().strip()
    with contextlib.suppress(ValueError):
        found = json.loads(text)
        return Outcome(
            name,
            code,
            time.monotonic() - began,
            found if isinstance(found, dict) else {},
            said.getvalue().splitlines(),
            error and printable(error),
        )
    notes = [*said.getvalue().splitlines(), *text.splitlines()]
    return Outcome(name, code, time.monotonic() - began, {}, notes, error and printable(error))


def _log(outcome: Outcome, log_format: str) -> None:
    if log_format == "json":
        line = {
            "time": datetime.now(UTC).strftime(_SECONDS_FORMAT),
            "level": "error" if outcome.word == "failed" else "info",
            "step": outcome.step,
            "outcome": outcome.word,
            "code": outcome.code,
            "seconds": round(outcome.seconds, 3),
            "figures": figures(outcome),
            "notes": outcome.notes,
        }
        if outcome.error:
            line["error"] = outcome.error
        click.echo(json.dumps(line), err=True)
        return
    for note in outcome.notes:
        options.say(f"{outcome.step}: {note}")
    told = ", ".join(f"{key} {value:g}" for key, value in figures(outcome).items())
    error = f"; {outcome.error}" if outcome.error else ""
    options.say(
        f"{outcome.step}: {outcome.word} in {outcome.seconds:.1f} s"
        f"{f' ({told})' if told else ''}{error}"
    )


def figures(outcome: Outcome) -> dict[str, float]:
    """The figures of a step that are worth a line in the log, and a metric."""
    found: Mapping[str, Any] = outcome.found
    if outcome.step == "ingest" and "flows" in found:
        rejects = sum(found["rejects"].values())
        return {"lines": found["lines"], "flows": found["flows"], "rejects": rejects}
    if outcome.step == "recommend" and "window" in found:
        edges = found["edges"]
        return {
            "coverage": min((one["coverage"] for one in found["window"]["bins"]), default=0.0),
            "ready": float(found["window"]["word"] == "ready"),
            "wanted_edges": edges.get("wanted", 0),
            "review_edges": edges.get("review", 0),
            "policies": len(found["policies"]),
        }
    if outcome.step == "check" and "denied" in found:
        return {"would_deny_edges": len(found["denied"]), "unknown_edges": len(found["unknown"])}
    if outcome.step == "drift" and "new_edges" in found:
        return {
            "drift_new_edges": len(found["new_edges"]),
            "drift_unused_rules": len(found["unused_rules"]),
            "drift_changed_by_hand": len(found["by_hand"]),
        }
    if outcome.step == "diff" and "gained" in found:
        return {
            f"connections_{key}": len(found[key]) + found.get(f"{key}_more", 0)
            for key in ("gained", "lost")
        }
    return {}


def _publish(config: Mapping[str, Any], outcomes: list[Outcome]) -> Exception | None:
    """Give the figures away; what fails there ends the run only after all else."""
    from ingest.errors import FlowpolicyError
    from recommender import metrics

    where = config.get("metrics") or {}
    gauges = _gauges(outcomes)
    try:
        if "textfile" in where:
            metrics.write(Path(where["textfile"]), gauges)
        if "pushgateway" in where:
            token = os.environ.get("FLOWPOLICY_PUSHGATEWAY_TOKEN", "").strip() or None
            metrics.push(where["pushgateway"], str(config.get("cluster") or ""), gauges, token)
    except FlowpolicyError as error:
        return error
    return None


def _gauges(outcomes: list[Outcome]) -> list[Any]:
    from recommender.metrics import Gauge

    failed = any(one.word == "failed" for one in outcomes)
    steps: dict[tuple[tuple[str, str], ...], Outcome] = {
        (("step", one.step),): one for one in outcomes
    }
    named = {
        f"flowpolicy_{key}": (key.replace("_", " "), float(value))
        for one in outcomes
        for key, value in figures(one).items()
    }
    seconds = {key: round(one.seconds, 3) for key, one in steps.items()}
    codes = {key: float(one.code) for key, one in steps.items()}
    return [
        Gauge(
            "flowpolicy_success",
            "1 where every step of the last run ended well",
            {(): float(not failed)},
        ),
        Gauge(
            "flowpolicy_end_timestamp_seconds",
            "when the last run ended",
            {(): round(time.time(), 3)},
        ),
        Gauge("flowpolicy_step_seconds", "time that a step took", seconds),
        Gauge("flowpolicy_step_exit_code", "exit code of a step", codes),
        *(
            Gauge(name, f"{help_}, of the last run", {(): value})
            for name, (help_, value) in named.items()
        ),
    ]


@contextlib.contextmanager
def _locked(config: Mapping[str, Any]) -> Iterator[None]:
    """Hold the lock file, or fail at once; a store in a bucket has one only where it is named."""
    import fcntl

    from ingest.errors import FlowpolicyError

    store = str(config["store"]).rstrip("/")
    name = config.get("lock") or (None if "://" in store else f"{store}.lock")
    if name is None:
        yield
        return
    try:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        with Path(name).open("a", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise FlowpolicyError(
                    f"{name}: another run holds it; wait for its end, or see why it hangs"
                ) from error
            yield
    except OSError as error:
        raise FlowpolicyError(f"{name}: {error.strerror}; name another file as `lock`") from error
