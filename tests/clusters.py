"""The three public demo applications as clusters with traffic: labels, ports and calls as published.

GoogleCloudPlatform/microservices-demo (release/kubernetes-manifests.yaml),
microservices-demo/microservices-demo (deploy/kubernetes/complete-demo.yaml) and instana/robot-shop
(K8s/helm). The outside addresses, the ICMP and the scan are ours.
"""

from dataclasses import dataclass

from simulation import Simulation
from test_proposals_judged import NODES, Cluster


@dataclass(frozen=True)
class Application:
    """Who calls whom: `label` is the key that tells its workloads apart; `api` a name outside."""

    namespace: str
    label: str
    calls: str
    api: str
    databases: tuple[str, ...] = ()


APPLICATIONS = {
    "Online Boutique": Application(
        "boutique",
        "app",
        """198.51.100.7 frontend 8080, loadgenerator frontend 8080, frontend adservice 9555,
        frontend recommendationservice 8080, frontend productcatalogservice 3550,
        frontend cartservice 7070, frontend shippingservice 50051, frontend currencyservice 7000,
        frontend checkoutservice 5050, checkoutservice emailservice 8080,
        checkoutservice paymentservice 50051, checkoutservice productcatalogservice 3550,
        checkoutservice cartservice 7070, checkoutservice shippingservice 50051,
        checkoutservice currencyservice 7000, recommendationservice productcatalogservice 3550,
        cartservice redis-cart 6379, paymentservice 203.0.113.10 443""",
        "bank.example.com",
    ),
    "Sock Shop": Application(
        "sock-shop",
        "name",
        """198.51.100.7 front-end 8079, front-end catalogue 80, front-end carts 80,
        front-end user 80, front-end orders 80, orders carts 80, orders user 80, orders payment 80,
        orders shipping 80, orders orders-db 27017, catalogue catalogue-db 3306,
        carts carts-db 27017, user user-db 27017, shipping rabbitmq 5672, queue-master rabbitmq 5672,
        front-end session-db 6379, payment 203.0.113.10 443""",
        "card.example.net",
        ("orders-db", "carts-db", "user-db", "catalogue-db", "session-db", "rabbitmq"),
    ),
    "Robot Shop": Application(
        "robot-shop",
        "service",
        """198.51.100.7 web 8080, load web 8080, web catalogue 8080, web user 8080, web cart 8080,
        web shipping 8080, web ratings 80, web payment 8080, catalogue mongodb 27017,
        user mongodb 27017, user redis 6379, cart catalogue 8080, cart redis 6379,
        shipping mysql 3306, shipping cart 8080, ratings mysql 3306, ratings catalogue 8080,
        payment cart 8080, payment user 8080, payment rabbitmq 5672, dispatch rabbitmq 5672,
        payment 203.0.113.10 443""",
        "pay.example.org",
        ("redis",),
    ),
}
_SERVERS = ("203.0.113.10", "203.0.113.77")


def application(name: str) -> tuple[Cluster, Simulation]:
    """The cluster of an application, and two days of its traffic with probes and a scan."""
    app = APPLICATIONS[name]
    calls = [tuple(call.split()) for call in app.calls.split(",")]
    cluster = Cluster(11)
    dns = "kube-system/Deployment/coredns"
    cluster.add(dns, {"k8s-app": "kube-dns"}, ports=(("UDP", "dns", 53), ("TCP", "dns-tcp", 53)))
    workloads = sorted({end for *ends, _ in calls for end in ends if not end[0].isdigit()})
    where = {
        one: f"{app.namespace}/{'StatefulSet' if one in app.databases else 'Deployment'}/{one}"
        for one in workloads
    }
    for one in workloads:
        tier = "db" if one in app.databases else "app"
        cluster.add(where[one], {app.label: one, "tier": tier}, match={app.label: one})
    simulation = cluster.simulation()
    simulation.names = dict.fromkeys(_SERVERS, app.api)
    for client, server, port in calls:
        ends = where.get(client, client), where.get(server, server)
        simulation.want(*ends, "TCP", int(port), times=12)
        if server == _SERVERS[0]:
            simulation.want(where[client], _SERVERS[1], "TCP", int(port))
    for one in sorted({client for client, *_ in calls if client in where}):
        simulation.want(where[one], dns, "UDP", 53)
    front = where[calls[0][1]]
    simulation.want(front, where[calls[2][1]], "ICMP", 8)
    simulation.want(where[calls[4][0]], NODES["node-3"], "TCP", 6443)
    simulation.probes(front, int(calls[0][2]))
    simulation.scan(where[calls[-2][0]])
    return cluster, simulation
