"""docs/configuration.md, made from the code: every flag, variable and key of the network config.

After a change of a flag: `python -m flanneld_py.cli.reference > docs/configuration.md`. A test
fails while the file is not what this makes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flanneld_py.cli.completion import flag_tables
from flanneld_py.flags import Flag, Kind, shown_default, shown_value
from flanneld_py.flagtable import AGENT_FLAGS, COMMANDS, KUBERNETES_FLAGS

Row = Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigKey:
    """One key of the network config."""

    name: str
    type: str
    default: str
    meaning: str
    example: str


NETWORK_KEYS = (
    ConfigKey(
        name="Network",
        type="IPv4 CIDR",
        default="none; needed unless EnableIPv4 is false",
        meaning="The pods' network. No host and no other network may use it.",
        example='"10.244.0.0/16"',
    ),
    ConfigKey(
        name="SubnetLen",
        type="prefix length",
        default="24, or Network's plus 2 where that leaves no room",
        meaning="Length of each node's subnet; at least Network's plus 2, at most 30.",
        example="25",
    ),
    ConfigKey(
        name="SubnetMin",
        type="IPv4 address",
        default="the second subnet of Network",
        meaning="The first subnet that nodes may take.",
        example='"10.244.10.0"',
    ),
    ConfigKey(
        name="SubnetMax",
        type="IPv4 address",
        default="the last subnet of Network",
        meaning="The last subnet that nodes may take.",
        example='"10.244.99.0"',
    ),
    ConfigKey(
        name="EnableIPv4",
        type="boolean",
        default="true",
        meaning="Whether pods have IPv4.",
        example="false",
    ),
    ConfigKey(
        name="EnableIPv6",
        type="boolean",
        default="false",
        meaning="Whether pods have IPv6.",
        example="true",
    ),
    ConfigKey(
        name="IPv6Network",
        type="IPv6 CIDR",
        default="none; needed with EnableIPv6",
        meaning="The pods' IPv6 network.",
        example='"fd00:10:244::/48"',
    ),
    ConfigKey(
        name="IPv6SubnetLen",
        type="prefix length",
        default="64, or IPv6Network's plus 2 where that leaves no room",
        meaning="Length of each node's IPv6 subnet; at least IPv6Network's plus 2, at most 126.",
        example="80",
    ),
    ConfigKey(
        name="IPv6SubnetMin",
        type="IPv6 address",
        default="the second subnet of IPv6Network",
        meaning="The first IPv6 subnet that nodes may take.",
        example='"fd00:10:244:10::"',
    ),
    ConfigKey(
        name="IPv6SubnetMax",
        type="IPv6 address",
        default="the last subnet of IPv6Network",
        meaning="The last IPv6 subnet that nodes may take.",
        example='"fd00:10:244:99::"',
    ),
    ConfigKey(
        name="EnableNFTables",
        type="boolean",
        default="false",
        meaning="Accepted as flannel's. The firewall rules are those of nftables either way.",
        example="true",
    ),
    ConfigKey(
        name="Backend",
        type="object",
        default="udp, as in flannel, which is refused here: write one",
        meaning="How packets travel between nodes: `Type`, and the keys of that type below.",
        example='{"Type": "vxlan"}',
    ),
)

VXLAN_KEYS = (
    ConfigKey(
        name="VNI",
        type="number",
        default="1",
        meaning="VXLAN network identifier, also in the devices' names; the same on all nodes. "
        "At most 9999 with IPv6, for a device name has 15 characters.",
        example="42",
    ),
    ConfigKey(
        name="Port",
        type="number",
        default="0: the kernel's, 8472",
        meaning="UDP port; the same on all nodes.",
        example="4789",
    ),
    ConfigKey(
        name="MTU",
        type="number",
        default="0: the interface's",
        meaning="MTU of the nodes' network, in bytes. Pods get 50 less over IPv4, 70 over IPv6.",
        example="1400",
    ),
    ConfigKey(
        name="DirectRouting",
        type="boolean",
        default="false",
        meaning="Peers on the same link are reached without VXLAN.",
        example="true",
    ),
    ConfigKey(
        name="Learning",
        type="boolean",
        default="false",
        meaning="Whether the devices learn FDB entries from packets.",
        example="true",
    ),
    ConfigKey(
        name="GBP",
        type="boolean",
        default="false",
        meaning="Group based policy: carries packets' marks between nodes.",
        example="true",
    ),
)

VARIABLES = (
    ("NOTIFY_SOCKET", "systemd's socket: told READY, STATUS, WATCHDOG and STOPPING."),
    ("WATCHDOG_USEC", "systemd's patience: signs of life are given at half of it."),
    ("WATCHDOG_PID", "Whose signs of life are meant; another process's pid means not ours."),
)

INTRODUCTION = """\
<!-- Made by `python -m flanneld_py.cli.reference` from the code: change that, not this. -->

# Configuration

Everything that can be set, in three places: flags, the environment, and the network config in the
store. `flanneld-py --config-check` with your flags says what is wrong with them, and changes
nothing.

## How flags are written

The syntax is flannel's, so an existing unit file works as it is: one dash or two, `--name value` or
`--name=value`. A boolean takes its value behind `=` only: `--ip-masq=false`. Numbers may be written
`60` or `0x3c`, durations `90s`, `10m` or `1h30m`. Flags end at the first argument that is none.

Every flag has a twin in the environment: `FLANNELD_` and its name in capitals, with `_` for `-`.
The command line wins. An empty variable is none; a bad value in one is named in the log, and the
default is used. An unknown flag or a bad value on the command line ends the agent with status 2
before anything is touched.
"""

COMMAND_NOTE = """\
Without a command, `run` is meant. Each explains itself with `--help`.
"""

NETWORK_NOTE = """\
JSON under the key `config` below `--etcd-prefix`. Keys are matched without regard to case, unknown
keys are ignored, and a config that cannot be used is refused as a whole: the one before stays in
force, and `status` says why.

    etcdctl put /coreos.com/network/config \\
      '{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}'
"""


def render() -> str:
    """The whole file."""
    parts = [INTRODUCTION, "## Commands\n", COMMAND_NOTE]
    parts.append(_table(("Command", "What it is"), ((f"`{n}`", t) for n, t in COMMANDS.items())))
    parts += ["## Flags of the agent\n", *_sections(AGENT_FLAGS)]
    for command, flags in flag_tables().items():
        if command != "run" and flags:
            parts += [f"## Flags of `{command}`\n", _flags(flags)]
    parts.append("## Other variables of the environment\n")
    parts.append(_table(("Variable", "Meaning"), ((f"`{n}`", t) for n, t in VARIABLES)))
    parts += ["## The network config\n", NETWORK_NOTE, _keys(NETWORK_KEYS)]
    parts += ["### Backend of type `vxlan`\n", _keys(VXLAN_KEYS)]
    return "\n".join(parts)


def _sections(flags: Sequence[Flag]) -> Iterable[str]:
    for section in dict.fromkeys(flag.section for flag in flags):
        yield f"### {section}\n"
        yield _flags([flag for flag in flags if flag.section == section])


def _flags(flags: Iterable[Flag]) -> str:
    rows = []
    for flag in flags:
        value = shown_value(flag)
        name = f"`--{flag.name}={value}`" if value else f"`--{flag.name}`"
        default = shown_default(flag)
        rows.append(
            (
                name,
                f"`{flag.variable}`" if flag.environment else "none",
                f"`{default}`" if default else "none",
                _meaning(flag),
            )
        )
    return _table(("Flag", "Variable", "Default", "Meaning"), rows)


def _meaning(flag: Flag) -> str:
    text = flag.help
    if flag in KUBERNETES_FLAGS:
        text += " Giving it ends the agent with status 2 until that store exists."
    if flag.idle:
        text += " A line in the log says so."
    return f"{text} Example: `{_example(flag)}`"


def _example(flag: Flag) -> str:
    if flag.secret:
        return f"{flag.variable}=..."
    if flag.example or flag.choices:
        return f"--{flag.name}={flag.example or flag.choices[-1]}"
    if flag.kind is Kind.BOOLEAN:
        return f"--{flag.name}{'=false' if flag.default else ''}"
    return f"--{flag.name}={shown_default(flag)}"


def _keys(keys: Iterable[ConfigKey]) -> str:
    rows = (
        (f"`{key.name}`", key.type, key.default, f"{key.meaning} Example: `{key.example}`")
        for key in keys
    )
    return _table(("Key", "Type", "Default", "Meaning"), rows)


def _table(head: Row, rows: Iterable[Row]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(render(), end="")
