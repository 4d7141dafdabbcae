"""Which edges a gate stops, and which rare ones pass: each gate with its nearest honest neighbour."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from recommender.edges import WHO
from recommender.outliers import judged, support
from recommender.roles import coded

WEEKS = 24 * 14


class Traffic:
    """Edges with the hours in which they were seen; ends are `namespace/name` or addresses."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.seen: list[tuple[int, int]] = []

    def add(
        self,
        client: str,
        server: str,
        port: int,
        hours: Any,
        *,
        connections: int = 3,
        kind: str = "Deployment",
        server_type: str = "address",
        class_: str = "wanted",
        quiet: bool = True,
        **columns: Any,
    ) -> "Traffic":
        hours = [int(hour) for hour in hours]
        self.seen += [(len(self.rows), hour) for hour in hours]
        row = {
            "cluster": "c", **self._end("client", client, kind, "address"),
            **self._end("server", server, "Deployment", server_type),
            "protocol": "TCP", "port": port, "connections": connections, "hours": len(hours),
            "days": len({hour // 24 for hour in hours}), "bytes_to_server": None,
            "bytes_to_client": None, "quiet_hours": len(hours) if quiet else 0,
            "class": class_, "reason": "delivered", "run": None,
        }  # fmt: skip
        self.rows.append({**row, **columns})
        return self

    @staticmethod
    def _end(role: str, text: str, kind: str, outside: str) -> dict[str, Any]:
        namespace, slash, name = text.partition("/")
        values = (
            ("workload", namespace, kind, name, None, None)
            if slash
            else (outside, None, None, None, text, None)
        )
        return {f"{role}_{n}": v for n, v in zip(WHO, values, strict=True)}

    def judged(self, roles: dict[str, int] | None = None, **options: Any) -> pd.DataFrame:
        edges = pd.DataFrame(self.rows, dtype=object)
        sightings = pd.DataFrame(self.seen, columns=["edge", "hour"])
        whole = {
            f"{k.split('/')[0]}/Deployment/{k.split('/')[1]}": v for k, v in (roles or {}).items()
        }
        return judged(edges, sightings, whole, **options)


def shop(hours: int = WEEKS) -> Traffic:
    steady = range(hours)
    return (
        Traffic()
        .add("shop/web", "shop/cart", 80, steady)
        .add("shop/cart", "shop/redis", 6379, steady)
        .add("10.9.9.9", "shop/web", 80, steady)
    )


def last(frame: pd.DataFrame) -> tuple[str, str, Any]:
    row = frame.iloc[-1]
    return row["class"], row["reason"], row["pattern"]


def test_steady_edges_are_core() -> None:
    assert set(shop().judged()["pattern"]) == {"core"}


def test_a_one_off_in_a_long_window_waits_for_review() -> None:
    found = last(shop().add("shop/web", "shop/redis", 6379, [200]).judged())
    why = "seen in one hour only, and hardly anybody of its client's role does it"
    assert found == ("review", why, None)


@pytest.mark.parametrize(
    ("hours", "options", "roles"),
    [
        (48, {}, {}),  # a short window says nothing of frequency
        (WEEKS, {"kind": "CronJob"}, {}),  # what runs seldom
        (WEEKS, {"connections": 50}, {}),  # much for an hour
        # Two siblings do it.
        (WEEKS, {}, {"shop/web": 1, "shop/cart": 1, "shop/api": 1, "shop/redis": 2}),
    ],
)
def test_a_rare_edge_with_something_for_it_is_kept_and_marked(
    hours: int, options: dict[str, Any], roles: dict[str, int]
) -> None:
    found = shop(hours).add("shop/api", "shop/redis", 6379, range(hours))
    found.add("shop/web", "shop/redis", 6379, [20], **options)
    assert last(found.judged(roles)) == ("wanted", "delivered", "rare")


def test_a_workload_that_just_began_is_no_one_off() -> None:
    assert last(shop().add("shop/new", "shop/redis", 6379, [WEEKS - 1]).judged())[2] == "rare"


def test_another_guest_of_a_public_port_is_supported_and_a_lone_guest_elsewhere_is_not() -> None:
    assert last(shop().add("10.9.9.8", "shop/web", 80, [100]).judged())[2] == "rare"
    assert last(shop().add("10.9.9.8", "shop/redis", 22, [100]).judged())[0] == "review"


@pytest.mark.parametrize("hours", [48, WEEKS])
def test_a_scan_that_is_answered_waits_for_review(hours: int) -> None:
    traffic = shop(hours)
    for i in range(12):
        traffic.add("shop/web", f"shop/w{i}", 22, [30], connections=100)
    found = traffic.judged()
    assert (found["class"] == "review").sum() == 12
    assert "ten or more targets" in found["reason"].iloc[-1]


def test_many_ports_of_one_server_are_a_scan_too() -> None:
    traffic = shop()
    for port in range(1000, 1010):
        traffic.add("shop/web", "shop/cart", port, [30])
    assert (traffic.judged()["class"] == "review").sum() == 10


def test_who_meets_many_new_targets_every_hour_is_not_scanning() -> None:
    traffic = shop()
    for hour in range(40):
        for i in range(12):
            traffic.add("shop/mailer", f"203.0.113.{i + 12 * (hour % 20)}", 25 + hour, [hour])
    found = traffic.judged()
    assert not found["reason"].str.contains("targets").any()


def test_a_scan_that_meets_what_its_role_does_is_one_all_the_same() -> None:
    traffic = shop()
    for i in range(12):
        traffic.add("shop/web", f"shop/w{i}", 22, [30])
    for sibling in ("shop/api", "shop/cart"):
        traffic.add(sibling, "shop/w0", 22, range(WEEKS))
    roles = {"shop/web": 0, "shop/api": 0, "shop/cart": 0, "shop/w0": 1}
    found = traffic.judged(roles)
    assert found["class"].tolist()[3:] == ["review"] * 12 + ["wanted"] * 2


def test_what_begins_after_its_client_scanned_waits_for_review() -> None:
    traffic = shop().add("shop/web", "shop/redis", 21, [150], class_="review", quiet=False)
    found = last(traffic.add("shop/web", "203.0.113.5", 4444, range(151, 170)).judged())
    assert found[0] == "review"
    assert found[1].startswith("it began after its client had scanned")


@pytest.mark.parametrize(("scan", "begin"), [(20, 30), (150, 100)])
def test_what_began_before_a_scan_or_soon_after_the_start_is_kept(scan: int, begin: int) -> None:
    traffic = shop().add("shop/web", "shop/redis", 21, [scan], class_="review", quiet=False)
    assert (
        last(traffic.add("shop/web", "203.0.113.5", 443, range(begin, 300)).judged())[2] == "core"
    )


@pytest.mark.parametrize(
    ("server", "type_", "port", "class_", "pattern"),
    [
        ("192.168.0.1", "node", 10250, "wanted", "ask"),
        ("192.168.0.1", "node", 2379, "wanted", "ask"),
        ("192.168.0.1", "node", 9100, "wanted", "core"),
        ("192.168.0.1", "node", 6443, "wanted", "ask"),
        ("10.0.0.1", "apiserver", 443, "wanted", "ask"),
        ("shop/etcd", "workload", 2379, "wanted", "core"),
    ],
)
def test_what_rules_the_cluster_is_marked_however_regular(
    server: str, type_: str, port: int, class_: str, pattern: str | None
) -> None:
    found = last(shop().add("shop/web", server, port, range(WEEKS), server_type=type_).judged())
    assert (found[0], found[2]) == (class_, pattern)


def asks_kubelets(nodes: int, hours: Any) -> Traffic:
    traffic = shop()
    for i in range(nodes):
        where = {"server_type": "node", "connections": 60 * len(hours)}
        traffic.add("kube-system/metrics-server", f"192.168.0.{i}", 10250, hours, **where)
    return traffic


def test_a_metrics_server_that_asks_every_kubelet_every_hour_is_kept_and_marked() -> None:
    found = asks_kubelets(4, range(WEEKS)).judged(nodes=4)
    assert found["class"].tolist() == ["wanted"] * 7
    assert found["pattern"].tolist()[3:] == ["ask"] * 4


@pytest.mark.parametrize(
    ("asked", "hours", "nodes"),
    [
        (1, range(WEEKS), 4),  # one kubelet of four, however steadily
        (4, range(200, 230), 4),  # all of them, but for a day only
        (4, range(0, WEEKS, 24), 4),  # once a day
    ],
)
def test_who_asks_few_kubelets_or_seldom_waits_for_review(
    asked: int, hours: Any, nodes: int
) -> None:
    found = last(asks_kubelets(asked, hours).judged(nodes=nodes))
    why = "the kubelet's port runs commands in every pod of its node; and it is seldom done"
    assert found == ("review", why, None)


def test_a_member_of_a_role_vouches_for_another_only_where_the_role_does_it() -> None:
    traffic = shop()
    for i in range(8):
        traffic.add(f"shop/w{i}", "shop/cart", 80, range(WEEKS))
    traffic.add("shop/w0", "shop/redis", 6379, range(WEEKS))
    roles = {f"shop/w{i}": 1 for i in range(8)} | {"shop/redis": 2, "shop/cart": 3}
    assert last(traffic.add("shop/w1", "shop/redis", 6379, [200]).judged(roles))[0] == "review"


def outgoing(sent: int, **columns: Any) -> Traffic:
    traffic = shop()
    for i in range(6):
        size = 1000 * (1 + i % 3)
        traffic.add(
            "shop/web",
            f"198.51.100.{i}",
            443,
            range(WEEKS),
            bytes_to_server=14 * size,
            bytes_to_client=10**6,
        )
    return traffic.add(
        "shop/web", "203.0.113.7", 443, range(200, 210),
        **{"bytes_to_server": sent, "bytes_to_client": 100, **columns},
    )  # fmt: skip


def test_far_more_bytes_out_than_anywhere_else_wait_for_review() -> None:
    assert "bytes" in last(outgoing(10**9).judged())[1]


def test_downloads_shared_targets_and_usual_volumes_are_kept() -> None:
    assert last(outgoing(10**4).judged())[0] == "wanted"
    assert last(outgoing(10**9, bytes_to_client=10**10).judged())[0] == "wanted"
    shared = outgoing(10**9).add("shop/cart", "203.0.113.7", 443, range(WEEKS))
    assert set(shared.judged()["class"]) == {"wanted"}
    assert last(outgoing(10**9, bytes_to_server=None).judged())[0] == "wanted"


def test_a_policy_in_force_that_denies_it_is_a_contradiction() -> None:
    found = shop().judged(contradicted=[1])
    assert found["class"].tolist() == ["wanted", "review", "wanted"]
    assert "policy in force" in found["reason"][1]


def test_what_was_not_wanted_is_left_as_it_was() -> None:
    found = last(shop().add("shop/web", "shop/redis", 1, [3], class_="denied").judged())
    assert found == ("denied", "delivered", None)


def test_support_counts_the_block_without_the_edge_and_its_clients_one_bin_edges() -> None:
    names = [np.array(x.split(), object) for x in ("a a b c", "x y x z", "p p p p")]
    found = coded(names[0], names[1], names[2])
    roles = np.array([0, 0, 0, 1, 1, 1])  # a b c | x y z
    hours = np.array([5, 1, 1, 1])
    every = np.ones(4, bool)
    assert support(found, hours, roles, every).tolist() == [2, 7, 7, 7]
    assert support(found, hours, roles, hours > 1).tolist() == [0, 5, 5, 5]


def test_two_scanners_of_one_role_do_not_vouch_for_each_other() -> None:
    traffic = shop()
    for client in ("shop/web", "shop/cart"):
        for i in range(12):
            traffic.add(client, f"shop/w{i}", 22, [30])
    found = traffic.judged({"shop/web": 0, "shop/cart": 0, **{f"shop/w{i}": 1 for i in range(12)}})
    assert (found["class"] == "review").sum() == 24


def test_a_larger_score_is_more_suspicious() -> None:
    found = shop().add("shop/web", "shop/redis", 6379, [20]).judged()
    assert found["score"].iloc[-1] == max(found["score"])


def test_no_wanted_edge_is_no_trouble() -> None:
    found = Traffic().add("a/b", "c/d", 1, [0], class_="ignored").judged()
    assert found["pattern"].isna().all()


def replicas(clients: int, servers: int, lacking: int = 0) -> Traffic:
    """Clients that call a server of their own steadily, but for those that lack it."""
    traffic = shop()
    for i in range(clients):
        traffic.add(f"shop/w{i}", "shop/cart", 80, range(WEEKS))
        if i >= lacking:
            traffic.add(f"shop/w{i}", f"shop/s{i % servers}", 6379, range(WEEKS))
    return traffic


def as_roles(clients: int, servers: int) -> dict[str, int]:
    return {f"shop/w{i}": 1 for i in range(clients)} | {f"shop/s{i}": 2 for i in range(servers)}


@pytest.mark.parametrize(
    ("clients", "lacking", "class_"),
    [(24, 1, "wanted"), (24, 6, "review"), (4, 1, "wanted"), (4, 2, "review")],
)
def test_a_role_of_two_minds_vouches_for_no_member_that_never_did_it(
    clients: int, lacking: int, class_: str
) -> None:
    last_ = f"shop/s{clients - 1}"
    traffic = replicas(clients, clients, lacking).add("shop/w0", last_, 6379, [200])
    roles = as_roles(24, 24) | as_roles(clients, clients)
    assert last(traffic.judged(roles))[0] == class_


@pytest.mark.parametrize(("tells", "class_"), [(True, "wanted"), (False, "review")])
def test_a_role_vouches_for_no_member_that_does_only_what_everybody_does(
    tells: bool, class_: str
) -> None:
    traffic = shop()
    for i in range(24):
        if i or tells:
            traffic.add(f"shop/w{i}", "shop/cart", 80, range(WEEKS))
        if i:
            traffic.add(f"shop/w{i}", f"shop/s{i}", 6379, range(WEEKS))
    for end in ("web", "cart", "redis", *(f"{kind}{i}" for kind in "ws" for i in range(24))):
        traffic.add(f"shop/{end}", "kube-system/dns", 53, range(WEEKS))
    traffic.add("shop/w0", "shop/s23", 6379, [200])
    assert last(traffic.judged(as_roles(24, 24)))[0] == class_


@pytest.mark.parametrize(("servers", "class_"), [(3, "review"), (12, "wanted")])
def test_a_few_servers_of_a_role_do_not_vouch_for_one_more(servers: int, class_: str) -> None:
    traffic = replicas(24, servers - 1).add("shop/w0", f"shop/s{servers - 1}", 6379, [200])
    assert last(traffic.judged(as_roles(24, servers)))[0] == class_


def test_beacons_to_addresses_of_their_own_do_not_speak_for_each_other() -> None:
    traffic = shop()
    for i in range(2):
        traffic.add(f"shop/w{i}", f"203.0.113.{i}", 443, range(60))
    apart = traffic.judged({"shop/w0": 1, "shop/w1": 1})["score"].iloc[-1]
    together = traffic.add("shop/w0", "203.0.113.1", 443, range(60))
    assert together.judged({"shop/w0": 1, "shop/w1": 1})["score"].iloc[-2] < apart
