"""docs/configuration.md and docs/operations.md say what the code does, and all of it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from flanneld_py.cli.reference import NETWORK_KEYS, VXLAN_KEYS, render
from flanneld_py.flags import Flag, Kind, parse
from flanneld_py.flagtable import AGENT_FLAGS, COMMANDS
from flanneld_py.metrics import METRICS, PROCESS_METRICS
from flanneld_py.status import LeasePhase, PeerState
from subnet.netconf import parse as parse_config

CHECKOUT = Path(__file__).resolve().parents[4]
OPERATIONS = (CHECKOUT / "docs/operations.md").read_text()
LOGGED = ("info", "warning", "error", "critical", "log")
PLACEHOLDER = re.compile(r"%[-.\d]*[a-z]")


def calls(folder: str) -> Iterator[ast.Call]:
    """Every call in the modules of a package, those for tests left out."""
    for path in sorted((CHECKOUT / folder).rglob("*.py")):
        if "testing" not in path.parts:
            tree = ast.parse(path.read_text())
            yield from (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def log_events() -> set[str]:
    """What is logged from INFO on, with … for what differs from time to time."""
    found = set()
    for package in ("subnet", "backends", "flanneld_py"):
        for call in calls(package):
            name = call.func
            if isinstance(name, ast.Attribute) and ast.unparse(name.value) in ("log", "logger"):
                texts = [a.value for a in call.args[:2] if isinstance(a, ast.Constant)]
                if name.attr in LOGGED and texts:
                    found.add(PLACEHOLDER.sub("…", str(texts[0])))
    # Texts that are made elsewhere and only passed on.
    return {text for text in found if re.search(r"\w{3}", text.replace("elapsed_ms", ""))}


def documented(heading: str) -> set[str]:
    """What the first column of the tables under a heading names."""
    section = OPERATIONS.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert section, heading
    return set(re.findall(r"^\| `([^`]+)`", section, re.MULTILINE))


def test_the_configuration_reference_is_fresh() -> None:
    assert (CHECKOUT / "docs/configuration.md").read_text() == render(), (
        "run: python -m flanneld_py.cli.reference > docs/configuration.md"
    )


def test_the_reference_names_every_flag_variable_and_command() -> None:
    text = render()
    for flag in AGENT_FLAGS:
        assert f"| `--{flag.name}" in text
        assert flag.variable in text or not flag.environment
    for command in COMMANDS:
        assert f"| `{command}` |" in text


@pytest.mark.parametrize("flag", AGENT_FLAGS, ids=lambda flag: flag.name)
def test_examples_can_be_typed(flag: Flag) -> None:
    examples = re.findall(r"Example: `(--[^`]+)`", render())
    given = next((e for e in examples if e.partition("=")[0] == f"--{flag.name}"), "")
    if flag.secret:
        # A command line is visible to everybody.
        assert given == ""
        return
    parsed = parse(AGENT_FLAGS, [given])
    assert list(parsed.origins) == [flag.name]
    if flag.kind is Kind.TEXT:
        assert parsed.text(flag.name)


def test_the_keys_of_the_network_config_are_those_that_are_read() -> None:
    netconf = ast.parse((CHECKOUT / "subnet/netconf.py").read_text())
    constants = {node.value for node in ast.walk(netconf) if isinstance(node, ast.Constant)}
    shape = re.compile(r"Enable[A-Z]\w+|(IPv6)?(Network|Subnet(Len|Min|Max))|Backend")
    read = {text for text in constants if isinstance(text, str) and shape.fullmatch(text)}
    assert {key.name for key in NETWORK_KEYS} == read
    options = {
        call.args[1].value
        for call in calls("backends")
        if ast.unparse(call.func).endswith("option") and isinstance(call.args[1], ast.Constant)
    }
    assert {key.name for key in VXLAN_KEYS} == options


def test_examples_of_the_network_config_are_accepted() -> None:
    pairs = {key.name: key.example for key in NETWORK_KEYS if key.name != "EnableIPv4"}
    options = ", ".join(f'"{key.name}": {key.example}' for key in VXLAN_KEYS)
    pairs["Backend"] = f'{{"Type": "vxlan", {options}}}'
    # A subnet's bounds go with the length that is usual.
    del pairs["SubnetLen"], pairs["IPv6SubnetLen"]
    text = "{" + ", ".join(f'"{name}": {value}' for name, value in pairs.items()) + "}"
    assert parse_config(text).backend_type == "vxlan"


def test_every_metric_is_explained_and_no_other() -> None:
    ours = {metric.full_name for metric in METRICS}
    assert documented("Metrics") == ours | set(PROCESS_METRICS)


def test_every_log_event_is_explained_and_no_other() -> None:
    explained, logged = documented("Log events"), log_events()
    assert logged - explained == set(), "add rows to the table in docs/operations.md"
    assert explained - logged == set(), "remove these rows from docs/operations.md"


def test_every_state_is_explained() -> None:
    named = documented("Status")
    assert {state.value for state in PeerState} | {phase.value for phase in LeasePhase} <= named
