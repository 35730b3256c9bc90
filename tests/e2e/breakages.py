"""What people and programs do to a node's overlay (R1): each breaks it, none asks the agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flanneld_py.testing.lab.node import Node

DEVICE = "flannel.1"


def _routes(node: Node) -> None:
    # One by one: `ip route flush` cannot delete routes that refer to nexthop objects.
    lines = [line.split()[1] for line in node.observe().routes if f"dev {DEVICE}" in line]
    node.namespace.ip(*(f"route delete {prefix}" for prefix in lines))


def _neighbours(node: Node) -> None:
    # "all", because permanent entries are spared otherwise.
    node.namespace.ip(f"neighbour flush dev {DEVICE} nud all")


def _fdb(node: Node) -> None:
    shown = node.observe().fdb
    lines = [f"fdb delete {line.split()[0]} dev {DEVICE} self" for line in shown if DEVICE in line]
    node.namespace.batch("bridge", lines, force=True)


def _addresses(node: Node) -> None:
    node.namespace.ip(f"address flush dev {DEVICE}")


def _device(node: Node) -> None:
    node.namespace.ip(f"link delete {DEVICE}")


def _down(node: Node) -> None:
    node.namespace.ip(f"link set {DEVICE} down")


def _mac(node: Node) -> None:
    node.namespace.ip(f"link set {DEVICE} address 02:de:ad:be:ef:01")


def _mtu(node: Node) -> None:
    node.namespace.ip(f"link set {DEVICE} mtu 1280")


def _bounce(node: Node) -> None:
    node.underlay.bounce(node.namespace, node.number)


BREAKAGES: Mapping[str, Callable[[Node], None]] = {
    "routes flushed": _routes,
    "neighbours flushed": _neighbours,
    "FDB deleted": _fdb,
    "addresses flushed": _addresses,
    "device deleted": _device,
    "device down": _down,
    "MAC rewritten": _mac,
    "MTU changed": _mtu,
    "underlay bounced": _bounce,
}
