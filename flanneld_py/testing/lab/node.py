"""A node of the lab: a namespace on the underlay, its agent, its pods.

Must not know of other nodes.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network
from pathlib import Path

from flanneld_py.testing.lab.agent import Agent
from flanneld_py.testing.lab.cni import Attachment, Runtime
from flanneld_py.testing.lab.icmp import Target
from flanneld_py.testing.lab.namespace import Namespace
from flanneld_py.testing.lab.observed import KernelState, observe
from flanneld_py.testing.lab.underlay import Underlay, address6_of, address_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A connected pod."""

    namespace: Namespace
    attachment: Attachment

    @property
    def addresses(self) -> tuple[Target, ...]:
        """Its addresses, as the plugins said."""
        return self.attachment.addresses

    @property
    def ip(self) -> IPv4Address:
        """Its IPv4 address."""
        return next(ip for ip in self.addresses if isinstance(ip, IPv4Address))

    @property
    def ip6(self) -> IPv6Address:
        """Its IPv6 address."""
        return next(ip for ip in self.addresses if isinstance(ip, IPv6Address))


class Node:
    """Node `number` of a lab."""

    def __init__(self, number: int, *, prefix: str, folder: Path, underlay: Underlay) -> None:
        self.number = number
        self.name = f"n{number}"
        self.folder = folder / self.name
        self.underlay = underlay
        self.namespace = Namespace(f"{prefix}{self.name}")
        self.agent = Agent(self.namespace, self.folder)
        self.runtime = Runtime(
            self.namespace,
            conf_dir=self.agent.cni_conf_dir,
            data_dir=self.folder / "cni/data",
        )
        self.pods: list[Pod] = []
        self._serial = itertools.count(1)

    @property
    def ip(self) -> IPv4Address:
        """Underlay address."""
        return address_of(self.number)

    @property
    def ip6(self) -> IPv6Address:
        """Underlay IPv6 address."""
        return address6_of(self.number)

    def create(self) -> None:
        """Make the namespace and plug it into the switch."""
        self.namespace.create()
        self.underlay.attach(self.namespace, self.number)

    def remove(self) -> None:
        """Remove the agent, the pods and the namespace."""
        if self.agent.running:
            self.agent.kill()
        for pod in self.pods:
            pod.namespace.remove()
        self.pods.clear()
        self.namespace.remove()

    def add_pod(self) -> Pod:
        """Make a pod and connect it by the plugins of the agent's conflist."""
        namespace = Namespace(f"{self.namespace.name}-p{next(self._serial)}")
        namespace.create()
        try:
            attachment = self.runtime.add(namespace)
        except BaseException:
            namespace.remove()
            raise
        pod = Pod(namespace=namespace, attachment=attachment)
        self.pods.append(pod)
        return pod

    def remove_pod(self, pod: Pod) -> None:
        """Disconnect a pod by the plugins, and remove it."""
        self.runtime.delete(pod.namespace, pod.attachment)
        pod.namespace.remove()
        self.pods.remove(pod)

    def observe(self) -> KernelState:
        """Read the kernel's state from outside."""
        return observe(self.namespace)

    def subnet6(self) -> IPv6Network | None:
        """The IPv6 subnet that subnet.env names."""
        text = self.agent.subnet_env().get("FLANNEL_IPV6_SUBNET")
        network = ip_network(text, strict=False) if text else None
        return network if isinstance(network, IPv6Network) else None
