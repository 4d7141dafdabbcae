"""Addresses joined to blocks: exact without a budget, the best that a budget pays for with one."""

import ipaddress
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recommender.blocks import Block, blocks

v4 = st.sets(st.integers(0, 15), min_size=1).map(lambda s: {f"203.0.113.{n}" for n in s})


def cidrs(found: list[Block]) -> list[str]:
    return [block.cidr for block in found]


@given(st.sets(st.integers(0, 1023), min_size=1, max_size=60))
def test_without_a_budget_the_blocks_are_what_collapsing_gives(numbers: set[int]) -> None:
    base = int(ipaddress.ip_address("198.51.100.0"))
    addresses = [ipaddress.ip_address(base + n) for n in numbers]
    exact = ipaddress.collapse_addresses(ipaddress.ip_network(a) for a in addresses)
    found = blocks(map(str, addresses))
    assert cidrs(found) == [str(net) for net in exact]
    assert all(block.opened == 0 for block in found)


def best(seen: set[int], budget: int) -> tuple[int, int]:
    """(blocks, opened) by trying every cut of a /28 into blocks that may stand."""

    def tried(low: int, size: int) -> set[tuple[int, int]]:
        inside = sum(low <= n < low + size for n in seen)
        if inside == 0:
            return {(0, 0)}
        found = {(1, size - inside)} if inside * 2 >= size else set()
        if size > 1:
            half = size // 2
            found |= {(a + c, b + d) for a, b in tried(low, half)
                      for c, d in tried(low + half, half)}  # fmt: skip
        return {one for one in found if one[1] <= budget}

    return min(tried(0, 16))


@settings(max_examples=100, deadline=None)
@given(v4, st.integers(1, 8))
def test_with_a_budget_no_other_cut_has_fewer_blocks_or_opens_less(
    addresses: set[str], budget: int
) -> None:
    found = blocks(addresses, budget)
    assert sum(block.seen for block in found) == len(addresses)
    numbers = {int(address.rpartition(".")[2]) for address in addresses}
    assert (len(found), sum(block.opened for block in found)) == best(numbers, budget)


@given(v4, st.integers(0, 8), v4)
def test_what_is_closed_is_never_opened(addresses: set[str], budget: int, closed: set[str]) -> None:
    within = [ipaddress.ip_network(block.cidr) for block in blocks(addresses, budget, closed)]
    permitted = {str(a) for net in within for a in net}
    assert addresses <= permitted
    assert not (closed - addresses) & permitted


def test_the_budget_is_for_both_versions_together() -> None:
    found = blocks(["192.0.2.0", "192.0.2.1", "192.0.2.2", "2001:db8::", "2001:db8::1",
                    "2001:db8::2"], 1)  # fmt: skip
    assert cidrs(found) == ["192.0.2.0/30", "2001:db8::/127", "2001:db8::2/128"]
    assert [block.opened for block in found] == [1, 0, 0]


def test_no_block_is_wider_than_24_unless_all_of_it_was_seen() -> None:
    nearly = [f"198.51.{n >> 8}.{n & 255}" for n in range(511)]
    assert cidrs(blocks(nearly, 100)) == ["198.51.0.0/24", "198.51.1.0/24"]
    assert cidrs(blocks([*nearly, "198.51.1.255"], 100)) == ["198.51.0.0/23"]


APART = ["10.0.0.1", "10.255.255.255", "11.0.0.0"]


@pytest.mark.parametrize("pair", list(combinations(APART, 2)))
def test_half_of_a_block_at_least_was_seen(pair: tuple[str, str]) -> None:
    assert cidrs(blocks(pair, 1000)) == [f"{a}/32" for a in pair]
