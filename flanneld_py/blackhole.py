"""Blackhole routes for this node's own pod subnets (`--ip-blackhole-route`, flannel-compat 8.3).

Without them, a packet to a pod that is not there may leave by the default route while no bridge
holds the subnet. Pure; that the routes stay is the reconciler's affair.

flannel adds them without a metric, where they collide with the bridge's connected route of the
same prefix. Ours have the highest metric: any other route to the subnet wins, and none collides.
"""

from __future__ import annotations

from backends.base import NodeContext
from backends.elements import BACKSTOP_METRIC, Route


def blackhole_routes(context: NodeContext) -> tuple[Route, ...]:
    """One route per family of the node's lease; none before there is a lease."""
    if context.lease is None:
        return ()
    subnets = (context.lease.subnet, context.lease.subnet6)
    return tuple(
        Route(
            dst=subnet.network_address.packed,
            prefixlen=subnet.prefixlen,
            metric=BACKSTOP_METRIC,
            type="blackhole",
        )
        for subnet in subnets
        if subnet is not None
    )
