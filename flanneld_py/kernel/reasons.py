"""What a refusal of the kernel means, in words that name the thing and the remedy.

Pure.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Final

from backends.elements import Kind

_NO_RIGHTS: Final = "not permitted: changing the network needs CAP_NET_ADMIN in this namespace"
_GENERAL: Final[Mapping[int, str]] = {
    errno.EPERM: _NO_RIGHTS,
    errno.EACCES: _NO_RIGHTS,
    errno.ENETDOWN: "its device is down",
    errno.ENODEV: "its device is gone",
    errno.ENOBUFS: "the kernel's answer was lost or it is short of memory",
}
_SPECIAL: Final[Mapping[tuple[Kind, int], str]] = {
    (Kind.LINK, errno.EOPNOTSUPP): (
        "this kernel has no vxlan: load the module (modprobe vxlan), or install the package that "
        "brings it (linux-modules-extra of the running kernel)"
    ),
    (Kind.NEXTHOP, errno.EOPNOTSUPP): (
        "this kernel has no nexthop objects (they need Linux 5.3): run with --nexthops=off"
    ),
    (Kind.ADDRESS, errno.EACCES): "IPv6 is switched off on the device (disable_ipv6)",
    (Kind.ROUTE, errno.ENETUNREACH): "its gateway cannot be reached",
    (Kind.FDB, errno.ENOSPC): "the device holds as many entries as it may",
    (Kind.NEIGHBOUR, errno.ENOBUFS): (
        "the neighbour table is full: raise net.ipv4.neigh.default.gc_thresh3"
    ),
}


def reason(kind: Kind, number: int, text: str = "") -> str:
    """The kernel's words if it had some, completed by what they mean and the remedy if known."""
    meaning = _SPECIAL.get((kind, number)) or _GENERAL.get(number)
    words = text or ("" if meaning else os.strerror(number))
    return ": ".join(part for part in (words, meaning) if part)
