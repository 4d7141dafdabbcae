"""What two evaluators of the same ends must agree on, since the same policies govern it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from recommender.evaluate import Evaluator
from recommender.model import PORT_PROTOCOLS

Alike = Callable[[str, str, str], bool]  # client, server, protocol


def alike(one: Evaluator, other: Evaluator) -> Alike:
    """Whether both surely say the same of a client, a server and a protocol, rules included.

    They do where equal policies, in the same order, select each end. Of protocols without ports
    this is never said: whether they are judged at all depends on all policies of a set. Nor is it
    of the address of a Service.

    Args:
        one: made with `beside` the other's policies.
        other: likewise.
    """
    olds, news = one.acting, other.acting
    services = one.world.inventory.service_of_address

    @cache
    def equal(old: int, new: int) -> bool:
        return olds.placed[old] == news.placed[new]

    @cache
    def governed(name: str) -> bool:
        if name in services:
            return False
        for end in one.ends.find(name):
            old, new = olds.applying(end), news.applying(end)
            if len(old) != len(new) or not all(map(equal, old, new)):
                return False
        return True

    def answer(client: str, server: str, protocol: str) -> bool:
        return protocol in PORT_PROTOCOLS and governed(client) and governed(server)

    return answer
