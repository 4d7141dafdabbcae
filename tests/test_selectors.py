"""The selector of a workload takes in its pods and no others."""

from cluster_objects import inventory, pod, workload
from hypothesis import given
from hypothesis import strategies as st

from recommender.inventory import WorkloadKey
from recommender.model import And, Has, In, Labels, Not
from recommender.selectors import Unit, is_volatile, units


def key(name: str, kind: str = "Deployment") -> WorkloadKey:
    return WorkloadKey("shop", kind, name)


def only(name: str, value: str) -> In:
    return In(f"pod:{name}", frozenset({value}))


def takes(unit: Unit, labels: Labels) -> bool:
    return unit.selector.matches({f"pod:{k}": v for k, v in labels.items()})


def test_the_owners_match_labels_come_first() -> None:
    found = units(inventory(workload("web", {"app": "web", "team": "x"}, match={"app": "web"})))
    assert found[key("web")].selector == And((only("app", "web"),))


def test_labels_that_change_between_rollouts_and_pods_never_serve() -> None:
    found = units(
        inventory(
            pod("a-0", {"app": "a", "statefulset.kubernetes.io/pod-name": "a-0"}, owner=("StatefulSet", "a")),
            pod("b-1", {"app": "b", "pod-template-hash": "77"}, owner=("ReplicaSet", "b-77")),
        )
    )  # fmt: skip
    assert found[key("a", "StatefulSet")].selector == And((only("app", "a"),))
    assert found[key("b")].selector == And((only("app", "b"),))
    assert is_volatile("batch.kubernetes.io/controller-uid")


def test_a_canary_beside_its_main_one_is_told_apart_by_what_only_it_has() -> None:
    found = units(
        inventory(
            workload("web", {"app": "web"}),
            workload("web-canary", {"app": "web", "track": "canary"}, match={"app": "web"}),
        )
    )
    assert found[key("web")].selector == And((only("app", "web"), Not(Has("pod:track"))))
    assert found[key("web-canary")].selector == And((only("app", "web"), only("track", "canary")))


def test_a_workload_whose_own_values_vary_excludes_the_others_values() -> None:
    found = units(
        inventory(
            workload("web", {}, match={"app": "web"}),
            pod("w1", {"app": "web", "zone": "a"}, owner=("Deployment", "web")),
            pod("w2", {"app": "web"}, owner=("Deployment", "web")),
            workload("other", {"app": "web", "zone": "c"}, match={"app": "web"}),
        )
    )
    assert Not(In("pod:zone", frozenset({"c"}))) in found[key("web")].selector.terms


def test_workloads_that_nothing_tells_apart_are_one_unit() -> None:
    found = units(
        inventory(
            workload("one", {"app": "web", "pod-template-hash": "1"}, match={"app": "web"}),
            workload("two", {"app": "web", "pod-template-hash": "2"}, match={"app": "web"}),
            workload("other", {"app": "other"}),
        )
    )
    assert found[key("one")] is found[key("two")]
    assert found[key("one")].workloads == (key("one"), key("two"))
    assert not takes(found[key("one")], {"app": "other"})


def test_pods_without_labels_are_selected_by_what_the_others_have() -> None:
    found = units(
        inventory(workload("a", {}), workload("b", {}), workload("other", {"app": "other"}))
    )
    assert found[key("a")].workloads == (key("a"), key("b"))
    assert takes(found[key("a")], {})
    assert not takes(found[key("a")], {"app": "other"})


def test_host_network_pods_have_no_unit() -> None:
    assert not units(inventory(workload("agent", {"app": "agent"}, hostNetwork=True)))


labels = st.dictionaries(
    st.sampled_from(["app", "tier", "track", "version", "pod-template-hash"]),
    st.sampled_from(["a", "b", "c"]),
    max_size=4,
)


@given(st.lists(st.lists(labels, min_size=1, max_size=3), min_size=1, max_size=6))
def test_a_unit_takes_in_all_its_pods_and_no_others(maps: list[list[dict[str, str]]]) -> None:
    pods = [
        pod(f"w{w}-{p}", one, owner=("StatefulSet", f"w{w}"))
        for w, several in enumerate(maps)
        for p, one in enumerate(several)
    ]
    cluster = inventory(*pods)
    found = units(cluster)
    assert set(found) == set(cluster.workloads)
    for unit in found.values():
        for each in cluster.pods.values():
            assert takes(unit, each.labels) == (each.workload in unit.workloads)


@given(st.lists(labels, min_size=1, max_size=6), st.randoms())
def test_units_do_not_depend_on_the_order_of_objects(
    maps: list[dict[str, str]], random: object
) -> None:
    objects = [workload(f"w{n}", one) for n, one in enumerate(maps)]
    shuffled = list(objects)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert units(inventory(*objects)) == units(inventory(*shuffled))
