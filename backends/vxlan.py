"""VXLAN: one device per family, and per peer a route, a neighbour and an FDB entry.

Pure plans after flannel-compat 6.1, without its faults V1-V18: what peers read on the wire is
flannel's, what the kernel holds is equal or better. Options are read in `vxlan_options`. It decides
nothing about hostile leases (the table does that), yet has a plan or a reason for any of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from backends.base import NodeContext, PeerPlan
from backends.elements import (
    BACKSTOP_METRIC,
    IPV6_DEFAULT_METRIC,
    Address,
    Element,
    Fdb,
    Neighbour,
    Nexthop,
    Route,
    Sysctl,
    VxlanLink,
)
from backends.reverse_path import judge_rp_filter, rp_filter_setting
from backends.vxlan_options import (
    IPV4,
    IPV6,
    NAME,
    Family,
    device_name,
    fits_device_name,
    read_options,
)
from subnet import codec
from subnet.errors import CodecError
from subnet.model import Lease, LeaseAttrs, NetworkConfig

MAC_LENGTH = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """One enabled family on this node, with what is constant for all peers."""

    family: Family
    dev: str
    """Name of the device; one object for all elements."""
    network: IPv4Network | IPv6Network
    """The pods' network."""
    metric: int
    """Metric of a peer's route as the kernel reports it."""

    def own(self, ctx: NodeContext) -> IPv4Address | IPv6Address | None:
        """The underlay's own address of this family."""
        return ctx.underlay.ipv4 if self.family is IPV4 else ctx.underlay.ipv6

    def public(self, ctx: NodeContext) -> IPv4Address | IPv6Address | None:
        """What this node publishes."""
        return ctx.public_ip if self.family is IPV4 else ctx.public_ipv6

    def mac(self, ctx: NodeContext) -> bytes:
        return ctx.mac if self.family is IPV4 else ctx.mac6

    def subnet(self, lease: Lease) -> IPv4Network | IPv6Network | None:
        return lease.subnet if self.family is IPV4 else lease.subnet6


class VxlanBackend:
    """Implements `backends.base.Backend`. Raises NetworkConfigError for options that cannot be."""

    def __init__(self, config: NetworkConfig) -> None:
        self.options = read_options(config)
        self._sides: list[_Side] = []
        for enabled, family, network, metric in (
            (config.enable_ipv4, IPV4, config.network, 0),
            (config.enable_ipv6, IPV6, config.network6, IPV6_DEFAULT_METRIC),
        ):
            if enabled and network is not None:
                dev = device_name(family, self.options.vni)
                side = _Side(family=family, dev=dev, network=network, metric=metric)
                self._sides.append(side)

    @property
    def name(self) -> str:
        return NAME

    def devices(self) -> Sequence[str]:
        """Both families' names, so that the device of a family that was switched off goes."""
        names = (device_name(family, self.options.vni) for family in (IPV4, IPV6))
        return tuple(name for name in names if fits_device_name(name))

    # --- what this node publishes --------------------------------------------------------------

    def attrs(self, ctx: NodeContext) -> LeaseAttrs:
        data: dict[Family, str] = {}
        for side in self._sides:
            if side.public(ctx) is not None and len(side.mac(ctx)) == MAC_LENGTH:
                data[side.family] = codec.vtep_text(self.options.vni, side.mac(ctx))
        enabled = {side.family for side in self._sides}
        return LeaseAttrs(
            public_ip=ctx.public_ip if IPV4 in enabled else None,
            public_ipv6=ctx.public_ipv6 if IPV6 in enabled else None,
            backend_type=NAME,
            backend_data=data.get(IPV4),
            backend_v6_data=data.get(IPV6),
        )

    def stored_macs(self, attrs: LeaseAttrs) -> tuple[bytes | None, bytes | None]:
        return _stored_mac(attrs.backend_data), _stored_mac(attrs.backend_v6_data)

    # --- the node ------------------------------------------------------------------------------

    def mtu(self, ctx: NodeContext) -> int:
        """Smallest of the families, because a pod has one interface for both (V7)."""
        return min(self._device_mtu(ctx, side.family) for side in self._sides)

    def plan_node(self, ctx: NodeContext) -> tuple[Element, ...]:
        links: list[Element] = []
        settings: list[Element] = []
        addresses: list[Element] = []
        routes: list[Element] = []
        for side in self._sides:
            own = side.own(ctx)
            if own is not None and not self._lacks(ctx, side):
                links.append(self._link(ctx, side, own))
                settings.append(Sysctl(name=f"net/ipv6/conf/{side.dev}/accept_ra", value="0"))
                subnet = side.subnet(ctx.lease) if ctx.lease is not None else None
                if subnet is not None:
                    first = subnet.network_address.packed
                    addresses.append(Address(dev=side.dev, address=first, prefixlen=len(first) * 8))
            if side.family is IPV6 and ctx.underlay.accepts_ra:
                # Before forwarding is set: that drops the default routes which an advertisement
                # made, unless accept_ra is 2 by then.
                name = f"net/ipv6/conf/{ctx.underlay.name}/accept_ra"
                settings.append(Sysctl(name=name, value="2"))
            settings.append(Sysctl(name=side.family.forwarding, value="1"))
            if not _underlay_inside(ctx, side):
                routes.append(_backstop(side))
        return (*links, *settings, *addresses, *routes)

    def node_problems(self, ctx: NodeContext) -> tuple[str, ...]:
        """Why `plan_node` holds less than the network config asks for; for log and status."""
        problems = []
        configured, actual = self.options.mtu, ctx.underlay.mtu
        if configured > actual:
            problems.append(
                f"Backend.MTU {configured} is above the MTU {actual} of {ctx.underlay.name}, "
                f"which counts: raise it there or lower Backend.MTU"
            )
        for side in self._sides:
            if lack := self._lacks(ctx, side):
                problems.append(f"{side.family.name}: no device {side.dev}: {lack}")
            if inside := _underlay_inside(ctx, side):
                problems.append(
                    f"{side.family.name}: no backstop route for {side.network}: it holds this "
                    f"node's address {inside}, so it may hold other hosts that must stay "
                    "reachable: choose a pod network that no host uses"
                )
        return tuple(problems)

    def settings_to_judge(self, ctx: NodeContext) -> tuple[str, ...]:
        """Kernel settings that are not ours to set, but that `judge_settings` wants to see."""
        dev = next((side.dev for side in self._sides if side.family is IPV4), "")
        if not dev or not self.options.direct_routing:
            return ()
        return tuple(rp_filter_setting(name) for name in ("all", dev, ctx.underlay.name))

    def judge_settings(self, values: Mapping[str, str]) -> tuple[str, ...]:
        """Warnings about the settings that `settings_to_judge` named."""
        warning = judge_rp_filter(values)
        return (warning,) if warning else ()

    # --- peers ---------------------------------------------------------------------------------

    def plan_peer(self, ctx: NodeContext, lease: Lease) -> PeerPlan:
        attrs = lease.attrs
        if attrs.backend_type != NAME:
            theirs = ascii(attrs.backend_type[:40]) if attrs.backend_type else "not named"
            return PeerPlan(problems=(f"its backend is {theirs}, ours is {NAME}",))
        elements: tuple[Element, ...] = ()
        problems: tuple[str, ...] = ()
        for side in self._sides:
            reach: tuple[Element, ...] | str
            if side.family is IPV4:
                reach = self._reach(ctx, side, lease.subnet, attrs.public_ip, attrs.backend_data)
            else:
                reach = self._reach(
                    ctx, side, lease.subnet6, attrs.public_ipv6, attrs.backend_v6_data
                )
            if isinstance(reach, str):
                problems += (f"{side.family.name}: {reach}",)
            else:
                elements += reach
        return PeerPlan(elements=elements, problems=problems)

    def _reach(
        self,
        ctx: NodeContext,
        side: _Side,
        subnet: IPv4Network | IPv6Network | None,
        public: IPv4Address | IPv6Address | None,
        data: str | None,
    ) -> tuple[Element, ...] | str:
        """What reaches a peer's subnet of one family, or why nothing can."""
        if subnet is None:
            return "its lease has no subnet"
        if public is None:
            return "it publishes no public address"
        try:
            vtep = codec.vtep(data)
        except CodecError as error:
            return str(error)
        if vtep is None:
            return "it publishes no backend data"
        # Old releases of flannel publish no VNI, which reads as 0.
        if vtep.vni not in (0, self.options.vni):
            return f"its VNI is {vtep.vni}, ours is {self.options.vni}"
        if lack := self._lacks(ctx, side):
            return f"this node has no device {side.dev}: {lack}"
        # One packed object serves every element that holds it: 10,000 peers are kept in memory.
        first = subnet.network_address.packed
        if self.options.direct_routing and _is_onlink(ctx, public):
            return _route(ctx, side, subnet, first, public.packed, ctx.underlay.name, onlink=False)
        return (
            Fdb(dev=side.dev, mac=vtep.mac, dst=public.packed),
            Neighbour(dev=side.dev, dst=first, mac=vtep.mac),
            *_route(ctx, side, subnet, first, first, side.dev, onlink=True),
        )

    # --- the device ----------------------------------------------------------------------------

    def _device_mtu(self, ctx: NodeContext, family: Family) -> int:
        """The kernel refuses a device MTU above the underlay's less the overhead."""
        underlay = ctx.underlay.mtu
        return min(self.options.mtu or underlay, underlay) - family.overhead

    def _lacks(self, ctx: NodeContext, side: _Side) -> str:
        """Why the device of a family cannot be made; empty when it can."""
        if side.own(ctx) is None:
            return f"{ctx.underlay.name} has no {side.family.name} address"
        if self._device_mtu(ctx, side.family) < side.family.min_mtu:
            needed = side.family.min_mtu + side.family.overhead
            return f"{ctx.underlay.name} needs an MTU of at least {needed}"
        if len(side.mac(ctx)) != MAC_LENGTH:
            return "its MAC address is not known yet"
        return ""

    def _link(self, ctx: NodeContext, side: _Side, own: IPv4Address | IPv6Address) -> VxlanLink:
        return VxlanLink(
            name=side.dev,
            vni=self.options.vni,
            port=self.options.port or ctx.default_vxlan_port,
            parent=ctx.underlay.name,
            # The interface's own address and never the published one, which may be a NAT's (V8):
            # the kernel drops every packet whose source it does not own.
            local=own.packed,
            mac=side.mac(ctx),
            mtu=self._device_mtu(ctx, side.family),
            learning=self.options.learning,
            gbp=self.options.gbp,
        )


def _stored_mac(data: str | None) -> bytes | None:
    """A MAC that a device may have: not zero, not multicast."""
    try:
        vtep = codec.vtep(data)
    except CodecError:
        return None
    if vtep is None or not any(vtep.mac) or vtep.mac[0] & 1:
        return None
    return vtep.mac


def _is_onlink(ctx: NodeContext, address: IPv4Address | IPv6Address) -> bool:
    return any(address in prefix for prefix in ctx.underlay.onlink)


def _route(
    ctx: NodeContext,
    side: _Side,
    subnet: IPv4Network | IPv6Network,
    first: bytes,
    gateway: bytes,
    dev: str,
    *,
    onlink: bool,
) -> tuple[Element, ...]:
    """The route to a subnet, preceded by its nexthop where the kernel has such objects."""
    route = Route(
        dst=first,
        prefixlen=subnet.prefixlen,
        metric=side.metric,
        gateway=gateway,
        dev=dev,
        onlink=onlink,
        by_nexthop=ctx.by_nexthop,
    )
    if not ctx.by_nexthop:
        return (route,)
    return (Nexthop(dev=dev, gateway=gateway, onlink=onlink), route)


def _backstop(side: _Side) -> Route:
    """Pods' packets stop here while the device is gone, instead of leaving by the default route."""
    return Route(
        dst=side.network.network_address.packed,
        prefixlen=side.network.prefixlen,
        metric=BACKSTOP_METRIC,
        type="unreachable",
    )


def _underlay_inside(ctx: NodeContext, side: _Side) -> str:
    """Which address of this node lies inside of the pods' network; empty when none does.

    Then other hosts may lie there too, behind a gateway, and a backstop would cut them off.
    """
    for address in (side.own(ctx), side.public(ctx)):
        if address is not None and address in side.network:
            return str(address)
    return ""
