"""What an earlier subnet of this node left behind: gateway addresses on the bridge, and pods.

The bridge plugin refuses every pod while the bridge has another address than this subnet's
gateway, so that old ones must go. Pods keep the addresses that they were given: they are counted,
and must not be touched. Decides and reads; removes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path

from flanneld_py.kernel import HostAddress, HostFacts
from flanneld_py.subnetfile import SubnetEnv

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network
_GLOBAL_SCOPE = 0


def old_gateways(facts: HostFacts, bridge: str, env: SubnetEnv) -> tuple[HostAddress, ...]:
    """Addresses of `bridge` that an earlier subnet of ours gave it, in the order observed.

    Such a one is inside of Network and the first of its own subnet, as the bridge plugin gives it,
    and not the gateway of today, prefix length included. Anything else is somebody's.
    """
    return tuple(
        address
        for address in facts.addresses
        if address.dev == bridge
        and address.scope == _GLOBAL_SCOPE
        and _was_gateway(ip_address(address.address), address.prefixlen, env)
    )


def pods_of_old_subnets(booked: Iterable[IpAddress], env: SubnetEnv) -> tuple[IpAddress, ...]:
    """Addresses that pods hold and that this node's subnets do not have, sorted.

    A family that is not enabled has no subnet, so that all of its addresses are old.
    """
    subnets = _of_today(env)
    old = {one for one in booked if not any(_has(subnet, one) for subnet in subnets)}
    return tuple(sorted(old, key=lambda one: (one.version, int(one))))


def booked_addresses(book: Path) -> tuple[IpAddress, ...]:
    """Addresses that host-local has given to pods; `book` is the network's folder.

    Each is a file of that name. None where there is no such folder, or where it cannot be read.
    """
    try:
        names = [entry.name for entry in book.iterdir()]
    except OSError:
        return ()
    found = []
    for name in names:
        try:
            found.append(ip_address(name))
        except ValueError:
            continue  # its lock, and its notes of what it gave last
    return tuple(found)


def _was_gateway(address: IpAddress, prefixlen: int, env: SubnetEnv) -> bool:
    networks = [network for network in (env.network, env.network6) if network is not None]
    network = next((one for one in networks if _has(one, address)), None)
    own = ip_network(f"{address}/{prefixlen}", strict=False)
    if network is None or own in _of_today(env):
        return False
    return prefixlen > network.prefixlen and address == own.network_address + 1


def _of_today(env: SubnetEnv) -> list[IpNetwork]:
    return [subnet for subnet in (env.subnet, env.subnet6) if subnet is not None]


def _has(network: IpNetwork, address: IpAddress) -> bool:
    return network.version == address.version and address in network
