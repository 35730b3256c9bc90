"""Which lease a starting node asks for: its own, its previous subnet, or a free one.

Decides from what the store holds and writes nothing. Pure; randomness is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from subnet import allocate
from subnet.model import Lease, LeaseAttrs, NetworkConfig, PeerKey
from subnet.table import LeaseTable
from subnet.vtepmac import macs_of

KeyOf = Callable[[IPv4Network | None, IPv6Network | None], PeerKey]
"""`SubnetStore.key_of`."""

_DRAWS = 100
"""Free subnets that are tried when damaged records stand under the keys of those drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Previous:
    """Subnets that this node had before."""

    subnet: IPv4Network | None = None
    subnet6: IPv6Network | None = None
    source: str
    """Where that is written, for people: ``subnet.env``, ``the cache``."""
    lease: Lease | None = None
    """The whole lease, where it is known: a record that is still as we wrote it is ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What this node asks for."""

    config: NetworkConfig
    attrs: LeaseAttrs
    """What is published; its public addresses and MACs are this node's."""
    previous: tuple[Previous, ...] = ()
    """In the order of preference."""
    ttl: float = 86400.0
    """Seconds that the record outlives its last renewal (`--subnet-lease-ttl`)."""
    renew_margin: float = 3600.0
    """Seconds before the end at which it is renewed, but at most a third of `ttl`."""

    @property
    def margin(self) -> float:
        """Seconds before the end at which the lease is really renewed."""
        return min(self.renew_margin, self.ttl / 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquisition:
    """What to ask the store for."""

    reuse: Lease | None = None
    """A record that is ours and fits; None: create one of the following subnets."""
    subnet: IPv4Network | None = None
    subnet6: IPv6Network | None = None
    superseded: tuple[Lease, ...] = ()
    """Earlier records of ours that overlap the new lease and have to go after it is there."""
    departures: tuple[str, ...] = ()
    """Which subnets of ours we do not get again, and why; for people, said once."""


def own_records(
    leases: Iterable[Lease],
    *,
    config: NetworkConfig,
    public_ip: IPv4Address | None,
    public_ipv6: IPv6Address | None,
) -> list[Lease]:
    """The leases with our public IP; on IPv6-only networks those with our public IPv6.

    flannel goes by the IPv4 address alone (flannel-compat 3.6). An address that is absent on
    both sides is no match (12.1, E7).
    """
    if config.enable_ipv4:
        if public_ip is None:
            return []
        return [lease for lease in leases if lease.attrs.public_ip == public_ip]
    if public_ipv6 is None:
        return []
    return [lease for lease in leases if lease.attrs.public_ipv6 == public_ipv6]


def own_record(
    table: LeaseTable,
    *,
    config: NetworkConfig,
    public_ip: IPv4Address | None,
    public_ipv6: IPv6Address | None,
    previous: tuple[Previous, ...] = (),
) -> Lease | None:
    """The record that names our MACs, before there is a claim.

    One that fits, of these one with a subnet that we had, of these the newest: a record that
    another node wrote with our address beside ours must not give us its MAC.
    """
    found = own_records(
        table.records(), config=config, public_ip=public_ip, public_ipv6=public_ipv6
    )
    had = {(one.subnet, one.subnet6) for one in previous}
    return max(
        found,
        key=lambda lease: (
            _fits(config, lease),
            (lease.subnet, lease.subnet6) in had,
            lease.mod_revision,
            lease.key,
        ),
        default=None,
    )


def plan_acquisition(
    claim: Claim, table: LeaseTable, key_of: KeyOf, random: allocate.RandomSource
) -> Acquisition:
    """Decide what to ask for. Raises OutOfSubnetsError."""
    config, attrs = claim.config, claim.attrs
    ours = [
        lease
        for lease in own_records(
            table.records(),
            config=config,
            public_ip=attrs.public_ip,
            public_ipv6=attrs.public_ipv6,
        )
        if table.record(lease.key) is not None
    ]
    ours += [lease for lease in _still_ours(claim, table) if lease not in ours]
    fitting = [lease for lease in ours if _fits(config, lease)]
    if fitting:
        best = min(fitting, key=lambda lease: _preference(lease, claim))
        return Acquisition(
            reuse=best, superseded=_overlapped(best.subnet, best.subnet6, ours, best)
        )
    if (damaged := _damaged_own(claim, table)) is not None:
        return Acquisition(reuse=damaged)
    return _plan_creation(claim, table, ours, key_of, random)


def _plan_creation(
    claim: Claim,
    table: LeaseTable,
    ours: list[Lease],
    key_of: KeyOf,
    random: allocate.RandomSource,
) -> Acquisition:
    config = claim.config
    mine = {lease.key for lease in ours}
    others = [lease for lease in table.records() if lease.key not in mine]
    subnet: IPv4Network | None = None
    subnet6: IPv6Network | None = None
    departures: list[str] = []
    for former, source in _former(claim, ours):
        half, half6 = _fitting_halves(config, former.subnet, former.subnet6)
        why = allocate.compatible(config, former.subnet, former.subnet6)
        if rivals := allocate.overlapping(half, None, others):
            half, why = None, _held_by(rivals[0])
        if rivals := allocate.overlapping(None, half6, others):
            half6, why = None, _held_by(rivals[0])
        if why:
            departures.append(f"{_text(former)} ({source}): {why}")
        # Halves of different origin are not mixed: they may belong to different times.
        if half is not None or half6 is not None:
            subnet, subnet6 = half, half6
            break
    # Earlier records of ours are avoided too: their subnets may still be in use by pods.
    taken4 = [lease.subnet for lease in table.records() if lease.subnet is not None]
    taken6 = [lease.subnet6 for lease in table.records() if lease.subnet6 is not None]
    for _ in range(_DRAWS):
        got, got6 = _completed(config, (subnet, subnet6), taken4, taken6, random)
        if table.malformed(key_of(got, got6)) is None:
            break
        # No node can use a key under which a damaged record stands.
        subnet = subnet6 = None
        if got is not None:
            taken4.append(got)
        elif got6 is not None:
            taken6.append(got6)
    return Acquisition(
        subnet=got,
        subnet6=got6,
        superseded=_overlapped(got, got6, ours, None),
        departures=tuple(departures),
    )


def _completed(
    config: NetworkConfig,
    kept: tuple[IPv4Network | None, IPv6Network | None],
    taken4: list[IPv4Network],
    taken6: list[IPv6Network],
    random: allocate.RandomSource,
) -> tuple[IPv4Network | None, IPv6Network | None]:
    """The halves that are kept, and a free subnet for each enabled family without one."""
    subnet, subnet6 = kept
    # A family that is served already must not fail for want of a free subnet.
    missing = replace(
        config,
        subnet_min=None if subnet is not None else config.subnet_min,
        subnet6_min=None if subnet6 is not None else config.subnet6_min,
    )
    free, free6 = allocate.choose(missing, taken4, taken6, random)
    return subnet or free, subnet6 or free6


def _former(claim: Claim, ours: list[Lease]) -> list[tuple[Lease | Previous, str]]:
    """What we had before, the best first."""
    records: list[tuple[Lease | Previous, str]] = [
        (lease, "our lease") for lease in sorted(ours, key=lambda lease: _preference(lease, claim))
    ]
    listed = {(lease.subnet, lease.subnet6) for lease in ours}
    previous: list[tuple[Lease | Previous, str]] = []
    for one in claim.previous:
        nets = (one.subnet, one.subnet6)
        if nets not in listed and nets != (None, None):
            listed.add(nets)
            previous.append((one, one.source))
    return records + previous


def _still_ours(claim: Claim, table: LeaseTable) -> list[Lease]:
    """Records at previous subnets that are ours although our public IP changed (12.1, E20)."""
    found = []
    for previous in claim.previous:
        for lease in allocate.overlapping(previous.subnet, previous.subnet6, table.records()):
            if (lease.subnet, lease.subnet6) != (previous.subnet, previous.subnet6):
                continue
            if table.record(lease.key) is None:
                continue
            as_written = previous.lease is not None and previous.lease.attrs == lease.attrs
            if lease not in found and (as_written or _has_our_mac(lease.attrs, claim.attrs)):
                found.append(lease)
    return found


def _damaged_own(claim: Claim, table: LeaseTable) -> Lease | None:
    """Our cached lease, if a record without meaning stands in its place and nobody else does."""
    for previous in claim.previous:
        lease = previous.lease
        if lease is None or not _fits(claim.config, lease):
            continue
        damaged = table.malformed(lease.key)
        if damaged is not None and not allocate.overlapping(
            lease.subnet, lease.subnet6, table.records()
        ):
            return replace(lease, mod_revision=damaged.mod_revision)
    return None


def _preference(lease: Lease, claim: Claim) -> tuple[bool, bool, int, PeerKey]:
    """Sorts our records: first what our pods use, then what our device is known by."""
    nets = [(one.subnet, one.subnet6) for one in claim.previous]
    return (
        (lease.subnet, lease.subnet6) not in nets,
        not _has_our_mac(lease.attrs, claim.attrs),
        lease.create_revision,
        lease.key,
    )


def _has_our_mac(attrs: LeaseAttrs, own: LeaseAttrs) -> bool:
    theirs, ours = macs_of(attrs), macs_of(own)
    pairs = [
        (one, other)
        for one, other in ((theirs.mac, ours.mac), (theirs.mac6, ours.mac6))
        if one is not None and other is not None
    ]
    return bool(pairs) and all(one == other for one, other in pairs)


def _fits(config: NetworkConfig, lease: Lease) -> bool:
    return not allocate.compatible(config, lease.subnet, lease.subnet6)


def _fitting_halves(
    config: NetworkConfig, subnet: IPv4Network | None, subnet6: IPv6Network | None
) -> tuple[IPv4Network | None, IPv6Network | None]:
    only4 = replace(config, enable_ipv6=False)
    only6 = replace(config, enable_ipv4=False)
    return (
        None if subnet is None or allocate.compatible(only4, subnet, None) else subnet,
        None if subnet6 is None or allocate.compatible(only6, None, subnet6) else subnet6,
    )


def _overlapped(
    subnet: IPv4Network | None,
    subnet6: IPv6Network | None,
    ours: list[Lease],
    but: Lease | None,
) -> tuple[Lease, ...]:
    rest = [lease for lease in ours if but is None or lease.key != but.key]
    return allocate.overlapping(subnet, subnet6, rest)


def _held_by(lease: Lease) -> str:
    address = lease.attrs.public_ip or lease.attrs.public_ipv6
    return f"it is now held by {address} with {lease.subnets_text()}"


def _text(former: Lease | Previous) -> str:
    return " ".join(str(net) for net in (former.subnet, former.subnet6) if net is not None)
