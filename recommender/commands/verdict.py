"""`flowpolicy verdict`: whether connections pass, with the deciding rules."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ingest.errors import FlowpolicyError
from recommender.commands import options
from recommender.errors import InventoryError

if TYPE_CHECKING:
    from recommender.evaluate import Evaluator
    from recommender.inventory import Inventory, Pod
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
@options.names_store
@options.cluster
@options.judging
@options.output("text", "json", "jsonl")
def command(
    policies: tuple[str, ...],
    inventory: tuple[str, ...],
    src: str | None,
    dst: str | None,
    protocol: str,
    port: int | None,
    queries: Path | None,
    store: str | None,
    cluster: str | None,
    staged: bool,
    host_network: str | None,
    strict: bool,
    output: str,
) -> None:
    """Say whether one connection passes, and which rules decide it.

    The answer is true, false, or null where it cannot be told; then comes what would have to change
    for the opposite answer. With --queries, one answer a line (-o jsonl) or an array (-o json): the
    question, its other keys too, with "allow", "because" and "to_change"; where nobody knows an
    end, null. Host-network pods are judged as pods where all POLICIES are NetworkPolicies, else as
    their nodes.
    """
    from recommender.evaluate import evaluator

    if queries is None and (src is None or dst is None):
        raise click.UsageError("give --src and --dst, or --queries FILE")
    objects = options.read_inventory(inventory)
    given = options.read_policies(policies, objects, staged=staged)
    hosts = options.host_network(host_network, given.policies)
    judge = evaluator(
        given.policies,
        objects,
        told=options.known(store, cluster),
        staged=staged,
        host_network=hosts,
    )
    named: dict[tuple[str, str], Pod] = {}
    one: dict[str, Any] = {"src": src, "dst": dst, "protocol": protocol, "port": port}
    answers = []
    for question in [one] if queries is None else _questions(queries):
        try:
            verdict, changes = _answer(judge, question)
            named |= _pods(judge, objects, question)
        except InventoryError as error:
            if queries is None:
                raise
            verdict, changes = _unknown(str(error)), []
        answers.append(_as_dict(question, verdict, changes))
        if output == "text":
            _print(question, verdict, changes)
        elif output == "jsonl":
            click.echo(json.dumps(answers.pop()))
    if output == "json":
        click.echo(json.dumps(answers[0] if queries is None else answers))
    if host_network is None:
        options.say_host_network(hosts, named.values())
    options.done(strict, given)


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
        if isinstance(question, dict) and "proto" in question:
            raise FlowpolicyError(f'{path}:{number}: no such key: "proto"; write "protocol"')
        if not _is_question(question):
            raise FlowpolicyError(
                f'{path}:{number}: not a question; give {{"src","dst","protocol","port"}} '
                "with a protocol by name and a port of 0-65535"
            )
        yield question


def _is_question(question: object) -> bool:
    if not isinstance(question, dict):
        return False
    port = question.get("port")
    known = port is None or (type(port) is int and 0 <= port <= 65535)
    protocol = question.get("protocol")
    texts = [question.get("src"), question.get("dst"), *([] if protocol is None else [protocol])]
    return known and all(isinstance(text, str) and text for text in texts)


def _answer(judge: Evaluator, question: dict[str, Any]) -> tuple[Verdict, list[Reason]]:
    ends = str(question["src"]), str(question["dst"])
    protocol, port = str(question.get("protocol") or "TCP"), question.get("port")
    return judge.verdict(*ends, protocol, port), judge.to_change(*ends, protocol, port)


def _unknown(why: str) -> Verdict:
    from recommender.model import Reason, Verdict

    return Verdict(None, (Reason("egress", None, None, "unknown", why),))


def _pods(
    judge: Evaluator, inventory: Inventory, question: dict[str, Any]
) -> dict[tuple[str, str], Pod]:
    """The pods that a question names, as the inventory has them."""
    ends = [end for role in ("src", "dst") for end in judge.ends.find(str(question[role]))]
    found = [judge.world.pods[end] for end in ends if end < len(judge.world.pods)]
    return {(p.namespace, p.name): inventory.pods[p.namespace, p.name] for p in found}


def _as_dict(question: dict[str, Any], verdict: Verdict, changes: list[Reason]) -> dict[str, Any]:
    return {
        **question,
        "allow": verdict.allow,
        "because": [as_dict(reason) for reason in verdict.because],
        "to_change": [as_dict(reason) for reason in changes],
    }


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


def _print(question: dict[str, Any], verdict: Verdict, changes: list[Reason]) -> None:
    word = {True: "allowed", False: "denied", None: "cannot tell"}[verdict.allow]
    port = question.get("port")
    what = f"{question.get('protocol') or 'TCP'}{'' if port is None else f' {port}'}"
    options.tell(f"{question['src']} -> {question['dst']} {what}: {word}")
    for reason in verdict.because:
        options.tell(f"  {told(reason)}")
    if verdict.allow is False and set(changes) != set(verdict.because):
        options.tell("to allow it, all of these would have to change:")
        for reason in changes:
            options.tell(f"  {told(reason)}")


def told(reason: Reason) -> str:
    """A reason in a line: direction, what was done by which rule, more words if any, the file."""
    policy = f" by {reason.policy}" if reason.policy else ""
    rule = "" if reason.rule is None else f" rule {reason.rule}"
    detail = f" ({reason.detail})" if reason.detail else ""
    place = f", {reason.policy.place}" if reason.policy and reason.policy.place else ""
    return f"{reason.direction}: {reason.action}{policy}{rule}{detail}{place}"
