from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from recommender.model import (
    ALL_PORTS,
    EVERYTHING,
    NO_PORTS,
    NOTHING,
    And,
    Has,
    In,
    Not,
    Or,
    PortSet,
    Selector,
    Text,
)

# Point by point, on a small part of the ports.
POINTS = [(protocol, port) for protocol in ("TCP", "UDP", "ICMP") for port in range(1, 13)]
intervals = st.tuples(st.integers(1, 12), st.integers(1, 12)).map(lambda t: (min(t), max(t)))
port_sets = st.dictionaries(
    st.sampled_from(["TCP", "UDP", "ICMP"]), st.lists(intervals, max_size=4)
).map(PortSet.of)

keys = st.sampled_from(["pod:a", "pod:b", "ns:a"])
values = st.sampled_from(["x", "xy", "yx", ""])
labels = st.dictionaries(keys, values)
leaves: st.SearchStrategy[Selector] = st.one_of(
    st.builds(Has, keys),
    st.builds(In, keys, st.frozensets(values, max_size=2)),
    st.builds(Text, keys, st.sampled_from(["contains", "starts with", "ends with"]), values),
)
selectors: st.SearchStrategy[Any] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)


def points(ports: PortSet) -> set[tuple[str, int]]:
    return {point for point in POINTS if point in ports}


@given(port_sets, port_sets)
def test_port_sets_behave_like_sets_of_ports(left: PortSet, right: PortSet) -> None:
    assert points(left | right) == points(left) | points(right)
    assert points(left & right) == points(left) & points(right)
    assert points(left - right) == points(left) - points(right)
    assert (left <= right) is (points(left) <= points(right))
    assert bool(left) is bool(points(left))


@given(port_sets, port_sets)
def test_equal_port_sets_are_equal_values(left: PortSet, right: PortSet) -> None:
    assert (left == right) is (points(left) == points(right))


@given(port_sets, port_sets, port_sets)
def test_port_sets_obey_the_laws_of_sets(a: PortSet, b: PortSet, c: PortSet) -> None:
    assert a | b == b | a
    assert a & b == b & a
    assert (a | b) | c == a | (b | c)
    assert a & (b | c) == (a & b) | (a & c)
    assert a - (b | c) == (a - b) & (a - c)
    assert (a - b) | (a & b) == a
    assert a & ALL_PORTS == a
    assert a | NO_PORTS == a


def test_neighbouring_ports_are_joined() -> None:
    assert PortSet.of({"TCP": [(3, 4), (1, 2), (6, 6)]}).by_protocol == (("TCP", ((1, 4), (6, 6))),)


@given(selectors, selectors, labels)
def test_selectors_obey_the_laws_of_logic(a: Selector, b: Selector, found: dict[str, str]) -> None:
    assert Not(Not(a)).matches(found) is a.matches(found)
    assert And((a, b)).matches(found) is (a.matches(found) and b.matches(found))
    assert Or((a, b)).matches(found) is (a.matches(found) or b.matches(found))
    assert Not(And((a, b))).matches(found) is Or((Not(a), Not(b))).matches(found)


@given(labels)
def test_no_requirement_selects_everything_and_no_alternative_nothing(
    found: dict[str, str],
) -> None:
    assert EVERYTHING.matches(found)
    assert not NOTHING.matches(found)


def test_an_absent_key_is_in_no_set_and_so_not_in_any() -> None:
    assert not In("pod:a", frozenset({"x"})).matches({})
    assert Not(In("pod:a", frozenset({"x"}))).matches({})
    assert not Text("pod:a", "contains", "").matches({})
    assert Text("pod:a", "contains", "").matches({"pod:a": ""})
