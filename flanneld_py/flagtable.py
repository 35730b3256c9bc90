"""The agent's flags: flannel's (flannel-compat 1.1) with their defaults, and our own.

This table is the one place that names a flag: parsing, environment twins and help follow from it.
"""

from __future__ import annotations

from collections.abc import Mapping

from flanneld_py.flags import Flag, Kind

COMMANDS: Mapping[str, str] = {
    "run": "the agent (also when no command is given)",
    "status": "what a running agent has done, does, and cannot do",
    "demo": "three nodes with pods on this machine, in namespaces that vanish",
    "version": "the version, to standard output",
    "help": "this text",
}
"""Names of the commands and what each one is, for help."""

STORE = "The store, where nodes find each other"
INTERFACE = "The external interface, by which nodes reach each other"
PODS = "Pods, and what CNI plugins are told"
LEASE = "The lease of this node's subnet"
AGENT = "The agent itself"
ACCEPTED = "Accepted as flannel's, without effect yet"
KUBERNETES = "The Kubernetes store (does not exist yet)"

NO_KUBERNETES = (
    "the Kubernetes store does not exist yet: leave it out and give --etcd-endpoints, "
    "or stay with flannel on this cluster for now"
)

_ETCD = (
    Flag(
        name="etcd-endpoints",
        kind=Kind.TEXT,
        default="http://127.0.0.1:4001,http://127.0.0.1:2379",
        section=STORE,
        metavar="URL,...",
        help="Where etcd listens; several are separated by commas. https means TLS.",
    ),
    Flag(
        name="etcd-prefix",
        kind=Kind.TEXT,
        default="/coreos.com/network",
        section=STORE,
        metavar="KEY",
        help="Below this key stand `config` (the network config) and `subnets/` (the leases).",
    ),
    Flag(
        name="etcd-cafile",
        kind=Kind.TEXT,
        default="",
        section=STORE,
        metavar="FILE",
        help="CA certificate(s) that sign etcd's; without it the system's are trusted.",
    ),
    Flag(
        name="etcd-certfile",
        kind=Kind.TEXT,
        default="",
        section=STORE,
        metavar="FILE",
        help="Our client certificate, if etcd asks for one; goes with --etcd-keyfile.",
    ),
    Flag(
        name="etcd-keyfile",
        kind=Kind.TEXT,
        default="",
        section=STORE,
        metavar="FILE",
        help="The key of --etcd-certfile.",
    ),
    Flag(
        name="etcd-username",
        kind=Kind.TEXT,
        default="",
        section=STORE,
        metavar="NAME",
        help="User of etcd, if it has authentication on.",
    ),
    Flag(
        name="etcd-password",
        kind=Kind.TEXT,
        default="",
        section=STORE,
        metavar="PASSWORD",
        secret=True,
        help="Its password. Better given as FLANNELD_ETCD_PASSWORD: a command line is visible "
        "to every user of the machine.",
    ),
)

_INTERFACE = (
    Flag(
        name="iface",
        kind=Kind.TEXTS,
        default=(),
        section=INTERFACE,
        metavar="NAME|IP",
        help="Interface for traffic between nodes, by name or by an address of it. May be "
        "repeated: the first one that fits is taken. Without any, the default route decides.",
    ),
    Flag(
        name="iface-regex",
        kind=Kind.TEXTS,
        default=(),
        section=INTERFACE,
        metavar="REGEX",
        help="The same by a pattern, tried on addresses first and on names second; after all "
        "--iface.",
    ),
    Flag(
        name="iface-can-reach",
        kind=Kind.TEXT,
        default="",
        section=INTERFACE,
        metavar="IP",
        help="The interface through which the kernel would reach this address; tried last.",
    ),
    Flag(
        name="public-ip",
        kind=Kind.TEXT,
        default="",
        section=INTERFACE,
        metavar="IPV4",
        help="Address that other nodes send to, if it is not the interface's own (NAT).",
    ),
    Flag(
        name="public-ipv6",
        kind=Kind.TEXT,
        default="",
        section=INTERFACE,
        metavar="IPV6",
        help="The same for IPv6.",
    ),
)

_PODS = (
    Flag(
        name="subnet-file",
        kind=Kind.TEXT,
        default="/run/flannel/subnet.env",
        section=PODS,
        metavar="FILE",
        help="The file that tells subnet and MTU to CNI plugins, as flannel writes it. It is read "
        "at start, too: a node keeps its subnet.",
    ),
    Flag(
        name="cni-mode",
        kind=Kind.CHOICE,
        default="off",
        choices=("off", "direct"),
        section=PODS,
        help="direct: write a CNI configuration (bridge, host-local, portmap) when the node is "
        "ready. off: something else does.",
    ),
    Flag(
        name="cni-conf-dir",
        kind=Kind.TEXT,
        default="/etc/cni/net.d",
        section=PODS,
        metavar="DIR",
        help="Where --cni-mode=direct writes.",
    ),
    Flag(
        name="ip-masq",
        kind=Kind.BOOLEAN,
        default=False,
        section=PODS,
        effective=False,
        help="Masquerade what pods send out of the cluster. For now it is only told to CNI "
        "plugins, in the subnet file; the rules themselves are not set up yet.",
    ),
)

_LEASE = (
    Flag(
        name="subnet-lease-ttl",
        kind=Kind.DURATION,
        default=86400.0,
        section=LEASE,
        metavar="DURATION",
        help="How long the subnet stays ours when this node is silent.",
    ),
    Flag(
        name="subnet-lease-renew-margin",
        kind=Kind.INTEGER,
        default=60,
        section=LEASE,
        metavar="MINUTES",
        help="Renew this long before the lease ends, or at a third of it if that is less; "
        "1 to 1439.",
    ),
)

_AGENT = (
    Flag(
        name="state-dir",
        kind=Kind.TEXT,
        default="/var/lib/flanneld-py",
        section=AGENT,
        metavar="DIR",
        help="What survives a reboot: the last lease, config and peers.",
    ),
    Flag(
        name="run-dir",
        kind=Kind.TEXT,
        default="/run/flanneld-py",
        section=AGENT,
        metavar="DIR",
        help="Lock and socket of the running agent; `flanneld-py status` asks there.",
    ),
    Flag(
        name="nexthops",
        kind=Kind.CHOICE,
        default="auto",
        choices=("auto", "off"),
        section=AGENT,
        help="auto: routes refer to nexthop objects where the kernel has them (Linux 5.3), which "
        "is fast with many nodes. off: routes in flannel's classic form.",
    ),
    Flag(
        name="log-level",
        kind=Kind.CHOICE,
        default="info",
        choices=("debug", "info", "warning", "error"),
        section=AGENT,
        help="The least that is logged, to standard error.",
    ),
    Flag(
        name="version",
        kind=Kind.BOOLEAN,
        default=False,
        environment=False,
        section=AGENT,
        help="Print the version and exit.",
    ),
)


def _accepted(name: str, kind: Kind, default: str | bool | int, text: str) -> Flag:
    return Flag(name=name, kind=kind, default=default, section=ACCEPTED, help=text, effective=False)


def _kubernetes(name: str, kind: Kind, default: str | bool, text: str) -> Flag:
    return Flag(
        name=name, kind=kind, default=default, section=KUBERNETES, help=text, effective=False
    )


_LATER = (
    _accepted(
        "ip-masq-fully-random-disable", Kind.BOOLEAN, False, "Masquerade without random ports."
    ),
    _accepted("iptables-resync", Kind.INTEGER, 5, "Seconds between looks at firewall rules."),
    _accepted("iptables-forward-rules", Kind.BOOLEAN, True, "Accept forwarded pod traffic."),
    _accepted("ip-blackhole-route", Kind.BOOLEAN, False, "Blackhole for the local pod subnet."),
    _accepted("healthz-ip", Kind.TEXT, "0.0.0.0", "Address of the health server."),
    _accepted("healthz-port", Kind.INTEGER, 0, "Port of the health server; 0: none."),
    _accepted("v", Kind.INTEGER, 0, "Log verbosity; see --log-level."),
    _accepted("vmodule", Kind.TEXT, "", "Log verbosity per source file; see --log-level."),
    _accepted("log_backtrace_at", Kind.TEXT, "", "Source line that logs a stack trace."),
)

_KUBERNETES = (
    _kubernetes("kube-subnet-mgr", Kind.BOOLEAN, False, "Leases in the Kubernetes API."),
    _kubernetes("kube-api-url", Kind.TEXT, "", "URL of the API server."),
    _kubernetes("kubeconfig-file", Kind.TEXT, "", "Credentials for the API server."),
    _kubernetes(
        "kube-annotation-prefix", Kind.TEXT, "flannel.alpha.coreos.com", "Of node annotations."
    ),
    _kubernetes(
        "net-config-path", Kind.TEXT, "/etc/kube-flannel/net-conf.json", "The network config."
    ),
    _kubernetes("set-node-network-unavailable", Kind.BOOLEAN, True, "Clear the node's condition."),
)

AGENT_FLAGS: tuple[Flag, ...] = (
    *_ETCD, *_INTERFACE, *_PODS, *_LEASE, *_AGENT, *_LATER, *_KUBERNETES,
)  # fmt: skip
"""All flags of `flanneld-py run`, in the order of help."""

RUN_DIR: Flag = next(flag for flag in AGENT_FLAGS if flag.name == "run-dir")
"""Shared by the commands that talk to a running agent."""
