"""The objects of a running cluster, over its API: lists only, page by page, and never a Secret."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import urllib3
from kubernetes import client, config

from recommender.dialects import DIALECTS
from recommender.errors import InventoryError
from recommender.kept import kept
from recommender.manifests import Manifest

PAGE = 500  # objects a request, as kubectl asks
_CONNECT_SECONDS, _READ_SECONDS = 5.0, 60.0
_TRIES = 6  # of one page, and of one list whose pages expired
_FIRST_WAIT_SECONDS = 0.5  # doubled with each try: 15.5 seconds in all
_TIRED = frozenset({429, 500, 502, 503, 504})  # a server that will answer later
# One that has just started knows neither tokens nor rights before it has read them.
_WAKING = _TIRED | {401, 403}

_CORE = (
    ("v1", "Namespace"),
    ("v1", "Node"),
    ("v1", "Pod"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("v1", "ReplicationController"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("apps/v1", "ReplicaSet"),
    ("batch/v1", "Job"),
    ("batch/v1", "CronJob"),
)


@dataclass(frozen=True, slots=True)
class Listing:
    """What a cluster holds: manifests by kind, and the kinds that it does not have."""

    manifests: tuple[Manifest, ...]
    absent: tuple[str, ...]


@dataclass
class _Server:
    """The API server, and whether it was away since the first question."""

    api: client.ApiClient
    was_away: bool = False

    @property
    def host(self) -> str:
        return str(self.api.configuration.host)


def plural(kind: str) -> str:
    """The resource of a kind, as its CRD names it: `networkpolicies` of NetworkPolicy."""
    name = kind.lower()
    return f"{name[:-1]}ies" if name.endswith("y") else f"{name}s"


def asked() -> tuple[tuple[str, str], ...]:
    """All (apiVersion, kind) that are asked for: what an inventory is made of, and each policy."""
    policies = sorted({pair for dialect in DIALECTS.values() for pair in dialect.KINDS})
    return (*_CORE, *policies)


def cluster_objects(context: str | None = None, kubeconfig: str | None = None) -> Listing:
    """Every object that an inventory is made of, in the order of kinds, then as the API lists them.

    The cluster is that of the kubeconfig, or the one that this runs in where there is no
    kubeconfig. A server that goes away in the middle is waited for; a list whose pages have expired
    meanwhile (410) is begun anew. Kinds whose CRD is not installed are named in `absent`.

    Raises:
        InventoryError: no cluster is configured, it does not answer, or refuses the credentials or
            a list.
    """
    server = _Server(_connected(context, kubeconfig))
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    absent: list[str] = []
    refused: list[str] = []
    for version, kind in asked():
        try:
            found[version, kind] = _listed(server, version, kind)
        except client.ApiException as error:
            if error.status == 404:
                absent.append(f"{kind} ({version})")
            elif error.status == 403:
                refused.append(f"{plural(kind)} ({version.partition('/')[0]})")
            else:
                raise InventoryError(_failure(server, kind, error)) from error
    if refused:
        raise InventoryError(
            f"{server.host}: may not list {', '.join(refused)} in all namespaces; give "
            "this user the verb `list` on them, as the ClusterRole in deploy/base does"
        )
    core = set(_CORE)
    return Listing(
        tuple(
            _manifest(server.host, kept(body, is_policy=pair not in core))
            for pair, bodies in _once(found).items()
            for body in bodies
        ),
        tuple(absent),
    )


def _once(found: dict[tuple[str, str], Any]) -> dict[tuple[str, str], Any]:
    """The lists without Calico's stored resources, where its API server shows the same objects."""
    shown = {kind for version, kind in found if version.startswith("projectcalico.org/")}
    return {
        (version, kind): bodies
        for (version, kind), bodies in found.items()
        if not (version.startswith("crd.projectcalico.org/") and kind in shown)
    }


def _manifest(host: str, body: dict[str, Any]) -> Manifest:
    meta = body["metadata"]
    name = "/".join(filter(None, (meta.get("namespace"), meta["name"])))
    return Manifest(f"{host} {body['kind']} {name}", body)


def _connected(context: str | None, kubeconfig: str | None) -> client.ApiClient:
    chosen = client.Configuration()
    try:
        try:
            config.load_kube_config(kubeconfig, context, chosen, persist_config=False)
        except config.ConfigException:
            if kubeconfig is not None or context is not None:
                raise
            config.load_incluster_config(client_configuration=chosen)
    except config.ConfigException as error:
        where = kubeconfig or "the kubeconfig"
        named = f" with the context {context!r}" if context else ""
        raise InventoryError(
            f"{where}: no cluster{named} ({error}); check KUBECONFIG and "
            "`kubectl config get-contexts`, or run in a pod with a ServiceAccount token"
        ) from error
    chosen.retries = False  # tries are counted here
    return client.ApiClient(chosen)


def _listed(server: _Server, version: str, kind: str) -> list[dict[str, Any]]:
    for _ in range(_TRIES):
        try:
            return [
                {**body, "apiVersion": version, "kind": kind}
                for body in _pages(server, version, kind)
            ]
        except client.ApiException as error:
            if error.status != 410:  # the list went on longer than etcd keeps its revision
                raise
            gone = error
    raise InventoryError(
        f"{server.host}: the list of {plural(kind)} expired {_TRIES} times before its "
        "end; the API server is too slow or etcd compacts too often: try again later"
    ) from gone


def _pages(server: _Server, version: str, kind: str) -> Iterator[dict[str, Any]]:
    root = "/api/v1" if version == "v1" else f"/apis/{version}"
    query = [("limit", str(PAGE))]
    while True:
        page = _answer(server, f"{root}/{plural(kind)}", query)
        yield from page.get("items") or ()
        more = (page.get("metadata") or {}).get("continue")
        if not more:
            return
        query = [("limit", str(PAGE)), ("continue", more)]


def _answer(
    server: _Server,
    path: str,
    query: list[tuple[str, str]],
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """One page; a server that is away or tired is asked again, later each time."""
    for attempt in range(_TRIES):
        last = attempt + 1 == _TRIES
        try:
            data, _, _ = server.api.call_api(
                path,
                "GET",
                query_params=query,
                header_params={"Accept": "application/json"},
                auth_settings=["BearerToken"],
                response_types_map={200: "object"},
                _request_timeout=(_CONNECT_SECONDS, _READ_SECONDS),
            )
        except client.ApiException as error:
            if error.status == 0:
                raise InventoryError(_no_trust(server, error)) from error
            if last or error.status not in (_WAKING if server.was_away else _TIRED):
                raise
            server.was_away = server.was_away or error.status >= 500
        except (urllib3.exceptions.HTTPError, OSError) as error:
            if last:
                raise InventoryError(_unreachable(server, error)) from error
            server.was_away = True
        else:
            if isinstance(data, dict):
                return data
            raise InventoryError(f"{server.host}{path}: no JSON object; is this a proxy?")
        sleep(_FIRST_WAIT_SECONDS * 2**attempt)
    raise AssertionError


def _unreachable(server: _Server, error: Exception) -> str:
    if isinstance(error, urllib3.exceptions.ReadTimeoutError):
        what, then = f"did not answer within {_READ_SECONDS:.0f} seconds", "see how loaded it is"
    elif type(error) is urllib3.exceptions.ConnectTimeoutError:  # others say more
        what, then = "cannot be reached: timed out", "check the network, and policies on this pod"
    else:
        reason = str(error).rpartition(": ")[2]
        what, then = f"cannot be reached: {reason}", "check the address in the kubeconfig"
    return f"{server.host}: {what}, {_TRIES} times; {then}"


def _no_trust(server: _Server, error: client.ApiException) -> str:
    reason = str(error.reason).splitlines()[-1]
    return (
        f"{server.host}: its certificate is not trusted ({reason}); check "
        "certificate-authority in the kubeconfig"
    )


def _failure(server: _Server, kind: str, error: client.ApiException) -> str:
    if error.status == 401:
        return (
            f"{server.host}: does not know these credentials (401); log in again, or "
            "renew the ServiceAccount's token"
        )
    return (
        f"{server.host}: answered {error.status} {error.reason} to the list of "
        f"{plural(kind)}; try again later, or ask who runs the API server"
    )
