"""Flags about the network: the store, the interface, pods, the firewall and the lease.

Rows of the table in `flagtable`; flannel's have its names and defaults (flannel-compat 1.1).
"""

from __future__ import annotations

from flanneld_py.flags import Flag, Kind

STORE = "The store, where nodes find each other"
INTERFACE = "The external interface, by which nodes reach each other"
PODS = "Pods, and what CNI plugins are told"
FIREWALL = "Masquerade and forwarding"
LEASE = "The lease of this node's subnet"

_STORE_FLAGS = (
    Flag(
        name="etcd-endpoints",
        kind=Kind.TEXT,
        default="http://127.0.0.1:4001,http://127.0.0.1:2379",
        section=STORE,
        metavar="URL,...",
        example="https://192.0.2.1:2379,https://192.0.2.2:2379",
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
        example="/etc/flannel/ca.pem",
        help="CA certificate(s) that sign etcd's; without it the system's are trusted.",
    ),
    Flag(
        name="etcd-certfile",
        kind=Kind.TEXT,
        default="",
        section=STORE,
        metavar="FILE",
        example="/etc/flannel/node.pem",
        help="Our client certificate, if etcd asks for one; goes with --etcd-keyfile.",
    ),
    Flag(
        name="etcd-keyfile",
        kind=Kind.TEXT,
        default="",
        section=STORE,
        metavar="FILE",
        example="/etc/flannel/node-key.pem",
        help="The key of --etcd-certfile.",
    ),
    Flag(
        name="etcd-username",
        kind=Kind.TEXT,
        default="",
        section=STORE,
        metavar="NAME",
        example="flannel",
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

_INTERFACE_FLAGS = (
    Flag(
        name="iface",
        kind=Kind.TEXTS,
        default=(),
        section=INTERFACE,
        metavar="NAME|IP",
        example="eth1",
        help="Interface for traffic between nodes, by name or by an address of it. May be "
        "repeated: the first one that fits is taken. Without any, the default route decides.",
    ),
    Flag(
        name="iface-regex",
        kind=Kind.TEXTS,
        default=(),
        section=INTERFACE,
        metavar="REGEX",
        example="^eth[0-9]+$",
        help="The same by a pattern, tried on addresses first and on names second; after all "
        "--iface.",
    ),
    Flag(
        name="iface-can-reach",
        kind=Kind.TEXT,
        default="",
        section=INTERFACE,
        metavar="IP",
        example="192.0.2.1",
        help="The interface through which the kernel would reach this address; tried last.",
    ),
    Flag(
        name="public-ip",
        kind=Kind.TEXT,
        default="",
        section=INTERFACE,
        metavar="IPV4",
        example="198.51.100.7",
        help="Address that other nodes send to, if it is not the interface's own (NAT).",
    ),
    Flag(
        name="public-ipv6",
        kind=Kind.TEXT,
        default="",
        section=INTERFACE,
        metavar="IPV6",
        example="2001:db8::7",
        help="The same for IPv6.",
    ),
)

_POD_FLAGS = (
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
        name="cni-conf",
        kind=Kind.TEXT,
        default="",
        section=PODS,
        metavar="FILE",
        example="/etc/kube-flannel/cni-conf.json",
        help="What --cni-mode=direct writes follows this configuration as it was written for "
        "flannel's plugin: names, bridge, chained plugins. Without it: network cbr0, bridge cni0, "
        "portmap.",
    ),
)

_FIREWALL_FLAGS = (
    Flag(
        name="ip-masq",
        kind=Kind.BOOLEAN,
        default=False,
        section=FIREWALL,
        help="Masquerade what pods send out of the cluster behind this node's address.",
    ),
    Flag(
        name="ip-masq-fully-random-disable",
        kind=Kind.BOOLEAN,
        default=False,
        section=FIREWALL,
        help="Masquerade with source ports that are not chosen at random. At random, two "
        "connections at once do not get into each other's way.",
    ),
    Flag(
        name="iptables-forward-rules",
        kind=Kind.BOOLEAN,
        default=True,
        section=FIREWALL,
        help="Accept forwarded packets from and to pods. The name is flannel's: the rules are "
        "those of nftables.",
    ),
    Flag(
        name="ip-blackhole-route",
        kind=Kind.BOOLEAN,
        default=False,
        section=FIREWALL,
        help="A blackhole route for this node's own pod subnet, at the highest metric: packets "
        "to pods that are not there end here, also while no bridge holds the subnet.",
    ),
)

_LEASE_FLAGS = (
    Flag(
        name="subnet-lease-ttl",
        kind=Kind.DURATION,
        default=86400.0,
        section=LEASE,
        metavar="DURATION",
        example="1h30m",
        help="How long the subnet stays ours when this node is silent.",
    ),
    Flag(
        name="subnet-lease-renew-margin",
        kind=Kind.INTEGER,
        default=60,
        section=LEASE,
        metavar="MINUTES",
        example="30",
        help="Renew this long before the lease ends, or at a third of it if that is less; "
        "1 to 1439.",
    ),
)

NETWORK_FLAGS: tuple[Flag, ...] = (
    *_STORE_FLAGS, *_INTERFACE_FLAGS, *_POD_FLAGS, *_FIREWALL_FLAGS, *_LEASE_FLAGS,
)  # fmt: skip
"""In the order of help."""
