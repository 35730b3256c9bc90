"""Flags about the agent as a process: folders, log, health; and those of the Kubernetes store.

Rows of the table in `flagtable`; flannel's have its names and defaults (flannel-compat 1.1).
"""

from __future__ import annotations

from flanneld_py.flags import Flag, Kind

AGENT = "The agent itself"
LOG = "The log"
HEALTH = "Health and metrics"
ACCEPTED = "Accepted as flannel's, without effect"
KUBERNETES = "The Kubernetes store (does not exist yet)"

_AGENT_FLAGS = (
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
        name="config-check",
        kind=Kind.BOOLEAN,
        default=False,
        section=AGENT,
        help="Judge flags, files, TLS material and, if etcd answers within a few seconds, the "
        "network config; change nothing, say what is wrong, and end with 0 (fine), 1 or 2.",
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

_LOG_FLAGS = (
    Flag(
        name="log-level",
        kind=Kind.CHOICE,
        default="info",
        choices=("debug", "info", "warning", "error"),
        section=LOG,
        help="The least that is logged, to standard error.",
    ),
    Flag(
        name="log-format",
        kind=Kind.CHOICE,
        default="text",
        choices=("text", "json"),
        section=LOG,
        help="text: one line for people. json: one object per line, for programs.",
    ),
    Flag(
        name="v",
        kind=Kind.INTEGER,
        default=0,
        section=LOG,
        metavar="N",
        example="1",
        help="flannel's verbosity: 1 and more mean --log-level=debug, unless that is given.",
    ),
)

_HEALTH_FLAGS = (
    Flag(
        name="healthz-ip",
        kind=Kind.TEXT,
        default="0.0.0.0",
        section=HEALTH,
        metavar="IP",
        example="127.0.0.1",
        help="Address at which /healthz, /readyz and /metrics are served. 0.0.0.0 and :: mean all "
        "addresses of both families.",
    ),
    Flag(
        name="healthz-port",
        kind=Kind.INTEGER,
        default=0,
        section=HEALTH,
        metavar="PORT",
        example="10256",
        help="Its port; 0 or less: none. What is served there is served on the socket in --run-dir "
        "in any case.",
    ),
)


def _accepted(
    name: str, kind: Kind, default: str | int, idle: str, text: str, example: str
) -> Flag:
    return Flag(
        name=name,
        kind=kind,
        default=default,
        section=ACCEPTED,
        help=text,
        idle=idle,
        example=example,
    )


_ACCEPTED_FLAGS = (
    _accepted(
        "iptables-resync",
        Kind.INTEGER,
        5,
        "rules and routes are healed at once when somebody changes them, not every few seconds",
        "Seconds between flannel's looks at its rules. Ours are healed at once.",
        "5",
    ),
    _accepted(
        "vmodule",
        Kind.TEXT,
        "",
        "it names source files of flannel: use --log-level",
        "Verbosity of single source files of flannel.",
        "vxlan=2",
    ),
    _accepted(
        "log_backtrace_at",
        Kind.TEXT,
        "",
        "it names a line in the source of flannel; faults are logged with their trace",
        "A line in flannel's source that shall log a stack trace.",
        "main.go:386",
    ),
)


def _kubernetes(name: str, kind: Kind, default: str | bool, text: str, example: str = "") -> Flag:
    return Flag(
        name=name, kind=kind, default=default, section=KUBERNETES, help=text, example=example
    )


_KUBERNETES_FLAGS = (
    _kubernetes("kube-subnet-mgr", Kind.BOOLEAN, False, "Leases in the Kubernetes API."),
    _kubernetes("kube-api-url", Kind.TEXT, "", "URL of the API server.", "https://192.0.2.1:6443"),
    _kubernetes(
        "kubeconfig-file", Kind.TEXT, "", "Credentials for the API server.", "/etc/kubeconfig"
    ),
    _kubernetes(
        "kube-annotation-prefix", Kind.TEXT, "flannel.alpha.coreos.com", "Of node annotations."
    ),
    _kubernetes(
        "net-config-path", Kind.TEXT, "/etc/kube-flannel/net-conf.json", "The network config."
    ),
    _kubernetes("set-node-network-unavailable", Kind.BOOLEAN, True, "Clear the node's condition."),
)

PROCESS_FLAGS: tuple[Flag, ...] = (
    *_AGENT_FLAGS, *_LOG_FLAGS, *_HEALTH_FLAGS, *_ACCEPTED_FLAGS, *_KUBERNETES_FLAGS,
)  # fmt: skip
"""In the order of help."""
