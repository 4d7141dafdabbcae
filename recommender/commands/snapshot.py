"""`flowpolicy snapshot`: what the running cluster holds, into a file or the store."""

from __future__ import annotations

from pathlib import Path

import click

from recommender.commands import options


@click.command(
    epilog="\b\nExample:\n  flowpolicy snapshot --out /tmp/inventory.yaml",
    short_help="Keep what the running cluster holds; never a Secret.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the objects to this file: JSON if so named, else YAML.",
)
@click.option("--store", metavar="STORE", help="Add the snapshot to this flow store; made if new.")
@click.option(
    "--cluster",
    default="default",
    show_default=True,
    metavar="NAME",
    help="The cluster's name in the store, as `ingest` has it.",
)
@click.option("--kubeconfig", metavar="FILE", help="Take this kubeconfig.")
@click.option("--context", metavar="NAME", help="Take this context of the kubeconfig.")
@click.option(
    "--keep-days",
    type=click.IntRange(1),
    default=90,
    show_default=True,
    help="Remember pods that have gone for so long, in the store.",
)
def command(
    out: Path | None,
    store: str | None,
    cluster: str,
    kubeconfig: str | None,
    context: str | None,
    keep_days: int,
) -> None:
    """Keep what the running cluster holds; never a Secret.

    Takes the cluster of the kubeconfig, or the one that this runs in. Lists namespaces, nodes,
    workloads, pods, services, accounts and policies of every known kind; of each object only the
    fields that are read: no environment, no arguments, no annotations of pods.

    In a store, snapshots add up: pods of Jobs and others that came and went stay known. Use what is
    kept with --inventory FILE, or --inventory snapshots:STORE.
    """
    if out is None and store is None:
        raise click.UsageError("say where to: --out FILE, --store STORE, or both")
    from recommender.cluster import cluster_objects

    found = cluster_objects(context, kubeconfig)
    if found.absent:
        options.say(f"kinds that this cluster does not have: {', '.join(found.absent)}")
    options.say(f"{len(found.manifests):,} objects")
    if out is not None:
        _write(out, [manifest.body for manifest in found.manifests])
    if store is not None:
        from datetime import UTC, datetime

        from ingest.store import create_store
        from recommender.snapshots import add_snapshot

        kept = add_snapshot(
            create_store(store), cluster, found.manifests, datetime.now(UTC), keep_days
        )
        options.say(f"{store}: knows {kept:,} objects of cluster {cluster}")


def _write(out: Path, bodies: list[dict[str, object]]) -> None:
    from ingest.errors import FlowpolicyError
    from recommender.manifests import list_text

    try:
        out.write_text(list_text(bodies, is_json=out.suffix == ".json"), encoding="utf-8")
    except OSError as error:
        raise FlowpolicyError(f"{out}: {error.strerror}; choose another file") from error
