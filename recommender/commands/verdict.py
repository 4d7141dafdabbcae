"""`flowpolicy verdict`: whether connections pass, with the deciding rules."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ingest.errors import FlowpolicyError
from recommender.commands import options

if TYPE_CHECKING:
    from recommender.evaluate import Evaluator
    from recommender.model import Reason, Verdict


@click.command(
    epilog="\b\nExample:\n  flowpolicy verdict data/samples/policies "
    "--inventory data/samples/inventory.yaml "
    "--src shop/web --dst shop/cart --protocol TCP --port 8080",
    short_help="Say whether one connection passes, and which rules decide it.",
)
@click.argument("policies", nargs=-1, required=True, metavar="POLICIES...")
@options.inventory
@click.option("--src", metavar="X", help="Client: NS/POD, NS/WORKLOAD or an address.")
@click.option("--dst", metavar="Y", help="Server: NS/POD, NS/WORKLOAD or an address.")
@click.option("--protocol", default="TCP", show_default=True, help="TCP, UDP, SCTP, ICMP, ...")
@click.option("--port", type=click.IntRange(0, 65535), help="Server port; ICMP: the type.")
@click.option(
    "--queries",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help='Many at once: lines of {"src","dst","protocol","port"}; - for standard input.',
)
@options.output("text", "json", "jsonl")
def command(
    policies: tuple[str, ...],
    inventory: tuple[str, ...],
    src: str | None,
    dst: str | None,
    protocol: str,
    port: int | None,
    queries: Path | None,
    output: str,
) -> None:
    """Say whether one connection passes, and which rules decide it.

    The answer is true, false, or null where it cannot be told. With --queries, one answer a line
    (-o jsonl): the question with "allow" and "because".
    """
    from recommender.evaluate import evaluator

    if queries is None and (src is None or dst is None):
        raise click.UsageError("give --src and --dst, or --queries FILE")
    objects = options.read_inventory(inventory)
    judge = evaluator(options.read_policies(policies, objects), objects)
    asked = (
        _questions(queries)
        if queries is not None
        else [{"src": src, "dst": dst, "protocol": protocol, "port": port}]
    )
    for question in asked:
        verdict = _verdict(judge, question)
        if output == "text":
            _print(question, verdict)
        else:
            because = [as_dict(reason) for reason in verdict.because]
            click.echo(json.dumps({**question, "allow": verdict.allow, "because": because}))


def _questions(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with click.open_file(str(path), encoding="utf-8") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise FlowpolicyError(f"{path}: {error.strerror}; check the path") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            question = json.loads(line)
        except (ValueError, RecursionError):
            question = None
        if not _is_question(question):
            raise FlowpolicyError(
                f'{path}:{number}: not a question; give {{"src","dst","protocol","port"}} '
                "with a port of 0-65535"
            )
        yield question


def _is_question(question: object) -> bool:
    if not isinstance(question, dict):
        return False
    port = question.get("port")
    known = port is None or (type(port) is int and 0 <= port <= 65535)
    return known and all(isinstance(question.get(end), str) for end in ("src", "dst"))


def _verdict(judge: Evaluator, question: dict[str, Any]) -> Verdict:
    protocol = str(question.get("protocol") or "TCP")
    port = question.get("port")
    return judge.verdict(
        str(question["src"]), str(question["dst"]), protocol, None if port is None else int(port)
    )


def as_dict(reason: Reason) -> dict[str, Any]:
    """A reason for JSON: direction, object, file, rule, what it did, and more words if any."""
    policy = reason.policy
    return {
        "direction": reason.direction,
        "policy": None if policy is None else str(policy),
        "place": None if policy is None else policy.place,
        "rule": reason.rule,
        "action": reason.action,
        "detail": reason.detail,
    }


def _print(question: dict[str, Any], verdict: Verdict) -> None:
    word = {True: "allowed", False: "denied", None: "cannot tell"}[verdict.allow]
    port = question.get("port")
    what = f"{question.get('protocol') or 'TCP'}{'' if port is None else f' {port}'}"
    click.echo(f"{question['src']} -> {question['dst']} {what}: {word}")
    for reason in verdict.because:
        policy = f" by {reason.policy}" if reason.policy else ""
        rule = "" if reason.rule is None else f" rule {reason.rule}"
        detail = f" ({reason.detail})" if reason.detail else ""
        click.echo(f"  {reason.direction}: {reason.action}{policy}{rule}{detail}")
