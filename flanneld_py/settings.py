"""Settings: what the user asked for, as one frozen value, judged before anything else happens.

Responsible for turning argv and environment into `Settings`, or into problems that name the flag,
the value and the remedy. May look whether files can be read; must not open connections, must not
change anything, and must never show a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TypeVar

from flanneld_py import pathrules as paths
from flanneld_py import settingrules as rules
from flanneld_py.flags import Parsed, UsageError, parse
from flanneld_py.flagtable import AGENT_FLAGS, COMMANDS, KUBERNETES_FLAGS, NO_KUBERNETES
from flanneld_py.flagvalues import duration_text
from flanneld_py.netif import InterfaceOptions
from flanneld_py.secret import Secret

Read = TypeVar("Read")

MAX_PORT = 65535
MIN_TTL = 2.0
"""Seconds. etcd grants no shorter lease with its default election timeout."""
MAX_TTL = 365 * 86400.0
"""Seconds; a node that is gone would block its subnet for longer than anybody remembers."""


class NexthopMode(Enum):
    """Which form routes take."""

    AUTO = "auto"
    OFF = "off"


class CniMode(Enum):
    """Who writes the CNI configuration."""

    OFF = "off"
    DIRECT = "direct"


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdOptions:
    """How to reach etcd. Not the store's own value, whose package loads gRPC."""

    endpoints: tuple[str, ...] = ("http://127.0.0.1:4001", "http://127.0.0.1:2379")
    """URLs or ``host:port``, all with or all without TLS."""
    prefix: str = "/coreos.com/network"
    """As given; the store cleans it as flannel does."""
    cafile: str = ""
    certfile: str = ""
    """Given together with `keyfile`, or not at all."""
    keyfile: str = ""
    username: str = ""
    """Given together with `password`, or not at all."""
    password: Secret = field(default_factory=Secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class PathSettings:
    """Files and folders of the agent. All absolute."""

    subnet_file: Path = Path("/run/flannel/subnet.env")
    state_dir: Path = Path("/var/lib/flanneld-py")
    run_dir: Path = Path("/run/flanneld-py")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSettings:
    """How long a lease is held, in seconds."""

    ttl: float = 86400.0
    renew_margin: float = 3600.0
    """Renew this long before the end; the keeper takes a third of `ttl` if that is less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CniSettings:
    """What the agent writes for CNI."""

    mode: CniMode = CniMode.OFF
    conf_dir: Path = Path("/etc/cni/net.d")
    conf: Path | None = None
    """The configured cni-conf, as written for flannel's plugin; None: our default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirewallSettings:
    """Which rules pods' packets meet on this node."""

    ip_masq: bool = False
    """Masquerade what leaves the cluster; also told to CNI plugins (FLANNEL_IPMASQ)."""
    random_fully: bool = True
    """Masquerade with random source ports."""
    forward_rules: bool = True
    """Accept forwarded packets from and to pods."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSettings:
    """Where health and metrics are served over TCP."""

    ip: str = "0.0.0.0"
    """An address, `localhost`, or empty for all addresses."""
    port: int = 0
    """0: not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that the user can decide. Defaults are those of the flags."""

    etcd: EtcdOptions = field(default_factory=EtcdOptions)
    iface: InterfaceOptions = field(default_factory=InterfaceOptions)
    """Which interface carries the traffic between nodes (flannel-compat 5)."""
    paths: PathSettings = field(default_factory=PathSettings)
    lease: LeaseSettings = field(default_factory=LeaseSettings)
    cni: CniSettings = field(default_factory=CniSettings)
    firewall: FirewallSettings = field(default_factory=FirewallSettings)
    health: HealthSettings = field(default_factory=HealthSettings)
    nexthops: NexthopMode = NexthopMode.AUTO
    blackhole_route: bool = False
    """Whether this node's own pod subnet gets a blackhole route (flannel-compat 8.3)."""
    log_level: str = "info"
    """``debug``, ``info``, ``warning`` or ``error``."""
    log_format: str = "text"
    """``text`` or ``json``."""
    config_check: bool = False
    """Only a judgement of the configuration was asked for."""
    version: bool = False
    """Only the version was asked for."""
    notes: tuple[str, ...] = ()
    """Lines to log at start: what was ignored, or has no effect yet."""


def from_argv(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """The settings of `flanneld-py run`; `argv` has neither the program's name nor the command.

    Raises UsageError with one line per problem, and flags.HelpRequested at a -h.
    """
    parsed = parse(AGENT_FLAGS, argv, environ)
    if parsed.boolean("version"):
        return Settings(version=True)
    reader = _Reader(parsed)
    settings = Settings(
        etcd=_etcd(reader),
        iface=_iface(reader),
        paths=PathSettings(
            subnet_file=reader.required("subnet-file", paths.path),
            state_dir=reader.required("state-dir", paths.path),
            run_dir=reader.required("run-dir", paths.run_dir),
        ),
        lease=_lease(reader),
        cni=CniSettings(
            mode=CniMode(parsed.text("cni-mode")),
            conf_dir=reader.required("cni-conf-dir", paths.path),
            conf=reader.optional("cni-conf", paths.readable_file),
        ),
        firewall=FirewallSettings(
            ip_masq=parsed.boolean("ip-masq"),
            random_fully=not parsed.boolean("ip-masq-fully-random-disable"),
            forward_rules=parsed.boolean("iptables-forward-rules"),
        ),
        health=_health(reader),
        nexthops=NexthopMode(parsed.text("nexthops")),
        blackhole_route=parsed.boolean("ip-blackhole-route"),
        log_level=_log_level(parsed),
        log_format=parsed.text("log-format"),
        config_check=parsed.boolean("config-check"),
        notes=_notes(parsed),
    )
    problems = reader.problems + _commands_behind_flags(parsed) + _kubernetes(parsed)
    if problems:
        raise UsageError(problems)
    return settings


class _Reader:
    """Reads one flag after the other and collects all problems instead of ending at the first."""

    def __init__(self, parsed: Parsed) -> None:
        self.parsed = parsed
        self.problems: list[str] = []

    def text(self, name: str) -> str:
        return self.parsed.text(name)

    def optional(self, name: str, rule: Callable[[str], Read]) -> Read | None:
        """The judged value; None when it is empty or a problem."""
        return self._judged(name, self.text(name), rule) if self.text(name) else None

    def required(self, name: str, rule: Callable[[str], Read]) -> Read:
        """The judged value; when it is a problem, the default stands in until it is raised."""
        value = self._judged(name, self.text(name), rule)
        if value is None:
            default = next(flag.default for flag in AGENT_FLAGS if flag.name == name)
            return rule(str(default))
        return value

    def each(self, name: str, rule: Callable[[str], Read]) -> tuple[Read, ...]:
        """The judged entries of a repeatable flag; empty entries are as good as none."""
        judged = (self._judged(name, text, rule) for text in self.parsed.texts(name) if text)
        return tuple(value for value in judged if value is not None)

    def problem(self, name: str, text: str) -> None:
        self.problems.append(f"{self.parsed.origin(name)}: {text}")

    def _judged(self, name: str, text: str, rule: Callable[[str], Read]) -> Read | None:
        try:
            return rule(text)
        except ValueError as error:
            self.problem(name, str(error))
            return None


def _etcd(reader: _Reader) -> EtcdOptions:
    cafile = reader.optional("etcd-cafile", paths.readable_file)
    certfile = reader.optional("etcd-certfile", paths.readable_file)
    keyfile = reader.optional("etcd-keyfile", paths.readable_file)
    if bool(reader.text("etcd-certfile")) != bool(reader.text("etcd-keyfile")):
        given, missing = ("etcd-certfile", "etcd-keyfile")
        if reader.text("etcd-keyfile"):
            given, missing = missing, given
        reader.problem(given, f"a certificate and its key go together: give --{missing}, too")
    username, password = reader.text("etcd-username"), reader.text("etcd-password")
    if bool(username) != bool(password):
        given, missing = ("etcd-username", "etcd-password")
        if password:
            given, missing = missing, given
        reader.problem(given, f"a user and a password go together: give --{missing}, too")
    return EtcdOptions(
        endpoints=reader.required("etcd-endpoints", rules.endpoints),
        prefix=reader.required("etcd-prefix", rules.etcd_prefix),
        cafile=str(cafile or ""),
        certfile=str(certfile or ""),
        keyfile=str(keyfile or ""),
        username=username,
        password=Secret(password),
    )


def _iface(reader: _Reader) -> InterfaceOptions:
    return InterfaceOptions(
        ifaces=reader.each("iface", rules.interface),
        regexes=reader.each("iface-regex", rules.regex),
        can_reach=reader.optional("iface-can-reach", rules.address),
        public_ip=reader.optional("public-ip", rules.ipv4_address),
        public_ipv6=reader.optional("public-ipv6", rules.ipv6_address),
    )


def _lease(reader: _Reader) -> LeaseSettings:
    ttl = reader.parsed.seconds("subnet-lease-ttl")
    if not MIN_TTL <= ttl <= MAX_TTL:
        valid = f"from {duration_text(MIN_TTL)} to {duration_text(MAX_TTL)}, for example 24h"
        reader.problem("subnet-lease-ttl", f"{duration_text(ttl)} is out of range: give {valid}")
    minutes = reader.parsed.integer("subnet-lease-renew-margin")
    if not 1 <= minutes <= 1439:
        reader.problem(
            "subnet-lease-renew-margin", f"{minutes} is out of range: give 1 to 1439 minutes"
        )
    return LeaseSettings(ttl=ttl, renew_margin=minutes * 60.0)


def _health(reader: _Reader) -> HealthSettings:
    port = reader.parsed.integer("healthz-port")
    if port > MAX_PORT:
        reader.problem("healthz-port", f"{port} is no port: give 1 to {MAX_PORT}, or 0 for none")
    address = reader.required("healthz-ip", rules.listen_address)
    return HealthSettings(ip=address, port=max(0, port))


def _log_level(parsed: Parsed) -> str:
    """What --log-level says; without it, flannel's -v."""
    if "log-level" not in parsed.origins and parsed.integer("v") > 0:
        return "debug"
    return parsed.text("log-level")


def _notes(parsed: Parsed) -> tuple[str, ...]:
    """What the user should know, though it stops nothing."""
    notes = list(parsed.warnings)
    notes += [
        f"{parsed.origins[flag.name]}: without effect: {flag.idle}"
        for flag in AGENT_FLAGS
        if flag.idle and flag.name in parsed.origins
    ]
    if parsed.origins.get("etcd-password", "").startswith("--"):
        notes.append(
            "--etcd-password: command lines are visible to every user: "
            "put it into the environment as FLANNELD_ETCD_PASSWORD"
        )
    if parsed.leftover:
        notes.append(
            f"arguments from {parsed.leftover[0]!r} on are ignored ({len(parsed.leftover)}), flags "
            "among them, too: a boolean takes its value behind '=', such as --ip-masq=true"
        )
    return tuple(notes)


def _commands_behind_flags(parsed: Parsed) -> list[str]:
    """`--run-dir X status` must not start an agent, though flannel ignores leftovers."""
    if parsed.leftover and parsed.leftover[0] in COMMANDS:
        command = parsed.leftover[0]
        return [f"{command}: a command comes first: write flanneld-py {command} --flag=value"]
    return []


def _kubernetes(parsed: Parsed) -> list[str]:
    """One line for each flag that asks for the Kubernetes store."""
    # A default that is spelled out asks for nothing.
    asked = [flag.name for flag in KUBERNETES_FLAGS if parsed.values[flag.name] != flag.default]
    return [f"{parsed.origin(name)}: {NO_KUBERNETES}" for name in asked]
