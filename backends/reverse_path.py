"""The kernel's reverse path filter, judged: does it drop what a backend sends on two ways?

Pure. The setting is the administrator's and is never written; what it breaks is said.
"""

from __future__ import annotations

from collections.abc import Mapping


def rp_filter_setting(name: str) -> str:
    """The kernel setting of an interface, or of ``all``, as `Sysctl` names settings."""
    return f"net/ipv4/conf/{name}/rp_filter"


def judge_rp_filter(values: Mapping[str, str]) -> str:
    """What a strict reverse path filter will break; empty when it is loose or off.

    `values` maps names such as ``net/ipv4/conf/eth0/rp_filter`` to their text. The kernel takes
    the larger of an interface's and of ``all``'s (Linux Documentation/networking/ip-sysctl), so
    2, which is loose, wins over 1.
    """
    by_device = {name.split("/")[-2]: value.strip() for name, value in values.items()}
    everywhere = by_device.pop("all", "0")
    strict = sorted(dev for dev, value in by_device.items() if max(value, everywhere) == "1")
    if not strict:
        return ""
    return (
        f"rp_filter is 1 (strict) on {', '.join(strict)}: with DirectRouting, packets from a peer "
        "may come in on another device than the answers go out by, and are dropped: "
        "set net.ipv4.conf.all.rp_filter to 2 (loose)"
    )
