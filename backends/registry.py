"""Backends by name. An explicit table: importing a module registers nothing.

Makes the backend that a network config asks for, or says which name would work. Reads no option;
those belong to the backends.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from difflib import get_close_matches

from backends.base import Backend
from backends.errors import BackendNotYet, UnknownBackend
from backends.vxlan import VxlanBackend
from subnet.model import NetworkConfig

BACKENDS: Mapping[str, Callable[[NetworkConfig], Backend]] = {"vxlan": VxlanBackend}
"""Backends that work."""
NOT_YET = ("alloc", "extension", "host-gw", "ipip", "ipsec", "tencent-vpc", "udp", "wireguard")
"""Backends that flannel has and this release has not (flannel-compat 2)."""


def make_backend(config: NetworkConfig) -> Backend:
    """The backend of `config`.

    Raises NetworkConfigError, whose kinds BackendNotYet and UnknownBackend are about the name and
    which is itself about an option.
    """
    name = config.backend_type
    if maker := BACKENDS.get(name):
        return maker(config)
    supported = tuple(BACKENDS)
    if name in NOT_YET:
        # netconf gives an absent Backend the type udp and leaves no options.
        value = name if config.backend_options else "absent (no key Backend, which means udp)"
        raise BackendNotYet(backend=name, value=value, supported=supported)
    if not name:
        raise UnknownBackend(value="absent", nearest="", supported=supported)
    close = get_close_matches(name, (*supported, *NOT_YET), n=1)
    raise UnknownBackend(
        value=json.dumps(name[:80]), nearest=close[0] if close else "", supported=supported
    )
