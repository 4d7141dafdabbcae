"""Options that several commands share, and how they say things."""

from __future__ import annotations

import functools
import math
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ingest.errors import FlowpolicyError
from recommender.report.lines import folded, printable

if TYPE_CHECKING:
    from recommender.decisions import Decision
    from recommender.dialects.writers import Network, Rollout
    from recommender.inventory import Inventory, Pod
    from recommender.known import Known
    from recommender.manifests import Texts
    from recommender.model import HostNetwork, Policy
    from recommender.policies import PolicySet

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

store = click.option(
    "--store", required=True, metavar="STORE", help="The flow store that `ingest` wrote."
)


def watched(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--store`, or `--edges` in its place: either is `store`, as `watch.watch` takes it."""

    @click.option("--store", metavar="STORE", help="The flow store that `ingest` wrote.")
    @click.option(
        "--edges",
        type=click.Path(exists=True, dir_okay=False),
        metavar="FILE",
        help="In place of --store: a Parquet file of edges, as `edges --hourly -o parquet` writes "
        "it, or a warehouse by what `edges --sql` prints.",
    )
    @functools.wraps(function)
    def wrapped(store: str | None, edges: str | None, **rest: Any) -> Any:
        if (store is None) == (edges is None):
            raise click.UsageError("give one of --store STORE and --edges FILE")
        return function(store=store or edges, **rest)

    return wrapped


inventory = click.option(
    "--inventory",
    multiple=True,
    metavar="PATH",
    help="Cluster objects: what `kubectl get ns,no,deploy,sts,ds,rs,job,cj,po,svc,netpol "
    "-A -o yaml` prints, a folder of manifests, `live:` for the running cluster, or "
    "`snapshots:STORE`. May be given several times.",
)
cluster = click.option(
    "--cluster", metavar="NAME", help="The cluster to look at, where the store holds several."
)


def _engine(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if value != "duckdb" and not value.startswith("spark://"):
        raise click.BadParameter(f"{value!r} is neither duckdb nor spark://HOST:PORT.")
    return value


engine = click.option(
    "--engine",
    default="duckdb",
    show_default=True,
    metavar="ENGINE",
    callback=_engine,
    help="What reads the flows: duckdb, in this process, or spark://HOST:PORT, a cluster of Apache "
    "Spark.",
)

decisions = click.option(
    "--decisions",
    metavar="FILE",
    help="Edges that people accepted or rejected, as `decide` writes them.",
)


repository = click.option(
    "--repo",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="PATH",
    help="The Git repository.",
)


def forge(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of commands that speak to a forge."""
    command = click.option(
        "--api", metavar="URL", help="Address of the API, for hosts where it is another."
    )(command)
    command = click.option(
        "--remote", default="origin", show_default=True, help="The repository's remote."
    )(command)
    kinds = click.Choice(["github", "gitlab", "gitea"])
    return click.option("--open", "open_", type=kinds, help="Push, and open a pull request.")(
        command
    )


def number(
    _context: click.Context, _parameter: click.Parameter, value: float | None
) -> float | None:
    """Refuse `nan`, which every range lets pass."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("nan is not a number; give one, as 0.01.")
    return value


def thresholds(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say when a window is long enough; the command gets them as `thresholds`."""
    share = click.FloatRange(0, 1)

    @click.option(
        "--min-days", type=click.IntRange(0), help="Days that must be watched; 14 unless given."
    )
    @click.option(
        "--min-coverage",
        type=share,
        callback=number,
        help="Share of the edges to come that must be known already; 0.99 unless given.",
    )
    @click.option(
        "--max-denied",
        type=share,
        callback=number,
        help="Share of the last days' edges that may be new; 0.001 unless given.",
    )
    @click.option(
        "--max-missed",
        type=share,
        callback=number,
        help="Share of the traffic that gaps in the log may hide; 0.01 unless given.",
    )
    @functools.wraps(function)
    def wrapped(
        min_days: int | None,
        min_coverage: float | None,
        max_denied: float | None,
        max_missed: float | None,
        **rest: Any,
    ) -> Any:
        from recommender.enough import Thresholds

        given = {"days": min_days, "coverage": min_coverage}
        given |= {"denied": max_denied, "missed": max_missed}
        chosen: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
        return function(thresholds=Thresholds(**chosen), **rest)

    return wrapped


def form(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options on the dialect and form of proposals; the command gets `dialect` and `form`."""

    @click.option(
        "--dialect",
        type=click.Choice(["kubernetes", "cilium", "calico"]),
        default="kubernetes",
        show_default=True,
        help="Policy API to write.",
    )
    @click.option(
        "--rollout",
        type=click.Choice(["enforced", "staged", "audit"]),
        default="enforced",
        show_default=True,
        help="Write a form that denies nothing yet: `staged` (calico), `audit` (cilium). "
        "`flowpolicy enforce` turns it into the enforced one.",
    )
    @click.option(
        "--network",
        type=click.Choice(["any", "cilium", "calico"]),
        default="any",
        show_default=True,
        help="What enforces NetworkPolicies: an ipBlock means no node on Cilium.",
    )
    @click.option("--tier", help="Tier of Calico's policies; `default` unless given.")
    @click.option("--order", type=float, help="Order of Calico's policies; 1000 unless given.")
    @click.option(
        "--calico-enterprise", is_flag=True, help="Calico's policies may name domains (egress)."
    )
    @click.option(
        "--join-names",
        type=click.IntRange(min=2),
        help="In Cilium's, let `*.REST` stand for so many names of one rule, or more, that differ "
        "in their first label only. It opens the names that were not seen too.",
    )
    @functools.wraps(function)
    def wrapped(
        rollout: Rollout,
        network: Network,
        tier: str | None,
        order: float | None,
        calico_enterprise: bool,
        join_names: int | None,
        **rest: Any,
    ) -> Any:
        from recommender.dialects.writers import Form

        placed: dict[str, Any] = {"tier": tier, "order": order}
        chosen = {key: value for key, value in placed.items() if value is not None}
        form = Form(
            rollout=rollout,
            network=network,
            domains=calico_enterprise,
            sibling_names=join_names or 0,
            **chosen,
        )
        return function(form=form, **rest)

    return wrapped


def read_decisions(path: str | None) -> tuple[Decision, ...]:
    """The decisions of a file, none without one."""
    from recommender.decisions import read_decisions

    return () if path is None else read_decisions(path)


names_store = click.option(
    "--store", metavar="STORE", help="Take the addresses of DNS names from this flow store."
)
_staged = click.option(
    "--staged",
    is_flag=True,
    help="Judge Calico's staged policies as if each were in force in the place of its namesake, "
    "and flowpolicy's own for Cilium in the audit form as if they enforced.",
)
_host_network = click.option(
    "--host-network",
    type=click.Choice(["nodes", "pods"]),
    help="Judge host-network pods as the nodes they run on, as Calico and Cilium do, or as pods. "
    "The API of NetworkPolicy leaves it open.",
)
_strict = click.option(
    "--strict", is_flag=True, help="Exit 1 when some policy would be refused, or is not read."
)


def judging(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that judges policies."""
    return _staged(_host_network(_strict(command)))


by = click.option(
    "--by",
    type=click.Choice(["workload", "pod"]),
    default="workload",
    show_default=True,
    help="One row a workload (permitted between any of its pods), or a pod.",
)


def output(*choices: str) -> Decorator:
    """The `-o` option with the given forms, the first by default."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(choices),
        default=choices[0],
        show_default=True,
        help="Form of the output.",
    )


def nearest(name: str, known: Sequence[str]) -> str:
    """`did you mean X? `, where a known name is near to the given one; else nothing."""
    import difflib

    found = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {found[0]}? " if found else ""


def tell(line: str) -> None:
    """One line for people, on standard output; a terminal gets it in lines that fit it."""
    shown = printable(line)
    if sys.stdout.isatty():
        shown = folded(shown, shutil.get_terminal_size().columns)
    click.echo(shown)


def say(line: str) -> None:
    """One line for people, on standard error."""
    click.echo(printable(line), err=True)


def read_inventory(paths: Sequence[str]) -> Inventory:
    """The inventory; what could not be read of it is said, and where there is no pod in it."""
    from recommender.inventory import Inventory
    from recommender.objects import read_inventory

    inventory = read_inventory(paths) if paths else Inventory()
    say_problems(inventory)
    if not inventory.pods:
        say(
            "there are no pods to judge, so policies select nobody and nothing is listed; give the "
            "cluster's objects with --inventory, or the folder in which its workloads are kept"
        )
    return inventory


def say_problems(inventory: Inventory) -> None:
    """Say what of the inventory was broken or of no known kind."""
    for problem in inventory.problems:
        say(problem)
    if inventory.unknown_kinds:
        kinds = ", ".join(f"{n} {kind}" for kind, n in inventory.unknown_kinds.items())
        say(f"inventory: objects of other kinds were passed over: {kinds}")


def read_policies(
    paths: Sequence[str],
    inventory: Inventory,
    *,
    may_be_empty: bool = False,
    staged: bool = False,
    read: Texts | None = None,
) -> PolicySet:
    """The policies; what was left out of them is said."""
    from recommender.policies import read_policies

    found = read_policies(paths, inventory, may_be_empty=may_be_empty, staged=staged, read=read)
    for note in found.notes:
        say(note)
    if may_be_empty and not found.manifests:
        what = "nothing here counts" if found.notes else "no object here"
        say(f"{', '.join(paths)}: {what}, so this is taken as a set without policies")
    return found


def host_network(asked: str | None, policies: Sequence[Policy]) -> HostNetwork:
    """What host-network pods are judged as: as asked, else as is usual for the policies' kinds."""
    from recommender.tiers import usual_host_network

    if asked is None:
        return usual_host_network(policies)
    return "as pods" if asked == "pods" else "as nodes"


def say_host_network(judged: HostNetwork, pods: Iterable[Pod]) -> None:
    """Say how host-network pods are judged, where nobody asked for it and it may surprise."""
    names = [f"{pod.namespace}/{pod.name}" for pod in pods if pod.host_network]
    if judged == "as pods" and names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        say(
            f"{names[0]}{more}: judged as pods, since the API of NetworkPolicy leaves it open what "
            "host-network pods are; Calico and Cilium see their nodes: --host-network nodes"
        )


def known(store: str | None, cluster: str | None) -> Known:
    """The addresses of DNS names that a store shows, where one is given."""
    from recommender.known import Known

    if store is None:
        return Known()
    from recommender.watch import names_seen

    return Known(names_seen(store, cluster))


def done(strict: bool, *sets: PolicySet, answer: int = 0) -> None:
    """End with the exit code of the answer; with --strict, fail where a policy would be refused."""
    refused = sum(each.refused for each in sets)
    if strict and refused:
        raise FlowpolicyError(
            f"{refused} of the faults above would keep a policy from being applied as it is "
            "written; mend them, or leave out --strict"
        )
    sys.exit(answer)
