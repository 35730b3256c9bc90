"""Unit and environment files given to the agent as systemd gives them: ours, and flanneld's."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from flanneld_py.statusclient import AgentUnreachable, fetch_status
from flanneld_py.testing.lab.lab import Lab
from flanneld_py.testing.lab.namespace import stop
from flanneld_py.testing.lab.node import Node
from flanneld_py.testing.lab.underlay import GATEWAY
from flanneld_py.testing.lab.waiting import wait_until
from flanneld_py.testing.tools import CHECKOUT, search_path
from tests.e2e.asking import get

pytestmark = [
    pytest.mark.tools("nft"),
    pytest.mark.skipif(
        "FLANNELD_PY_ISOLATED" not in os.environ,
        reason="uses the default folders in /run and /var/lib: run `make test`",
    ),
]

RUN_DIR, FLANNEL_DIR, STATE_DIR = (
    Path(path) for path in ("/run/flanneld-py", "/run/flannel", "/var/lib/flanneld-py")
)
COMMAND = (sys.executable, "-m", "flanneld_py")
DOCUMENT = CHECKOUT / "docs/install-systemd.md"

FLANNELDS_UNIT = """\
[Service]
Type=notify
EnvironmentFile=/etc/sysconfig/flanneld
ExecStart=/usr/local/bin/flanneld -etcd-prefix=${FLANNEL_ETCD_PREFIX} $FLANNEL_OPTIONS
"""
FLANNELDS_FILE = f"""\
# Flanneld configuration options
FLANNELD_ETCD_ENDPOINTS="http://{GATEWAY}:2379"
FLANNELD_IFACE=u0
FLANNELD_IPTABLES_RESYNC=7
FLANNEL_ETCD_PREFIX="/coreos.com/network"
FLANNEL_OPTIONS="-ip-masq -iface-regex ^u\\d$ --healthz-port 10257 --iptables-forward-rules=0"
"""


def unit_of(text: str) -> dict[str, list[str]]:
    """The settings of a unit, by name."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def variables_of(text: str) -> dict[str, str]:
    """An environment file."""
    return {
        name: value.strip('"') for name, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)
    }


def arguments_of(line: str, variables: Mapping[str, str]) -> list[str]:
    """The arguments of a command line, as systemd makes them: $NAME may become several words."""
    words: list[str] = []
    for word in shlex.split(line)[1:]:
        if whole := re.fullmatch(r"\$(\w+)", word):
            words += variables[whole[1]].split()
        else:
            words.append(re.sub(r"\$\{(\w+)\}", lambda m: variables[m[1]], word))
    return words


@pytest.fixture(autouse=True)
def folders() -> Iterator[None]:
    """What RuntimeDirectory and StateDirectory make."""
    for path in (RUN_DIR, FLANNEL_DIR, STATE_DIR):
        path.mkdir(parents=True)
    yield
    for path in (RUN_DIR, FLANNEL_DIR, STATE_DIR):
        shutil.rmtree(path)


@contextmanager
def service(
    node: Node, arguments: Sequence[str], *, wrapper: Sequence[str] = (), **environment: str
) -> Iterator[list[str]]:
    """Run the agent as a service that notifies; yields when it is ready, with what it said."""
    manager = node.folder / "notify"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving,
        node.agent.log_file.open("ab") as log,
    ):
        receiving.bind(str(manager))
        receiving.settimeout(15)
        process = node.namespace.popen(
            [*wrapper, *COMMAND, *arguments],
            log=log,
            environment={**environment, "NOTIFY_SOCKET": str(manager)},
        )
        try:
            said: list[str] = []
            while "READY=1" not in said:
                said.append(receiving.recv(4096).decode())
            yield said
        finally:
            status = stop(process)
            manager.unlink()
    assert status == 0


def is_ready() -> bool:
    try:
        return b'"ready":true' in fetch_status(RUN_DIR, timeout=2).replace(b" ", b"")
    except AgentUnreachable:
        return False


def test_the_documented_unit_works_with_its_few_rights(lab: Lab) -> None:
    (text,) = re.findall(r"```ini\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    unit = unit_of(text.replace("192.0.2.10", str(GATEWAY)))
    (node,) = lab.add_nodes(1)
    (check,), (start,) = unit["ExecStartPre"], unit["ExecStart"]
    wrapper = [
        "prlimit",
        f"--nofile={unit['LimitNOFILE'][0]}",
        "setpriv",
        f"--bounding-set=-all,+{unit['CapabilityBoundingSet'][0].removeprefix('CAP_').lower()}",
    ]
    made = {f"/run/{name}" for name in unit["RuntimeDirectory"][0].split()}
    assert made == {str(RUN_DIR), str(FLANNEL_DIR)}
    checked = subprocess.run(
        node.namespace.command(*wrapper, *COMMAND, *arguments_of(check, {})),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": search_path()},
    )
    assert checked.returncode == 0, checked.stderr
    with service(node, arguments_of(start, {}), wrapper=wrapper, WATCHDOG_USEC="30000000"):
        assert is_ready()
        assert get(node.namespace, 10256, "/readyz")[0] == 200
        assert "masquerade" in node.namespace.show("nft", "list", "ruleset")
        assert (FLANNEL_DIR / "subnet.env").exists()
        log = node.agent.log()
    assert " ERROR " not in log
    assert " WARN " not in log
    assert (FLANNEL_DIR / "subnet.env").exists()


def test_flannelds_own_unit_and_environment_file_work_unchanged(lab: Lab) -> None:
    variables = variables_of(FLANNELDS_FILE)
    (line,) = unit_of(FLANNELDS_UNIT)["ExecStart"]
    (node,) = lab.add_nodes(1)
    with service(node, arguments_of(line, variables), **variables):
        wait_until(is_ready, within=2, what="ready")
        assert get(node.namespace, 10257, "/readyz")[0] == 200
        rules = node.namespace.show("nft", "list", "ruleset")
        assert "masquerade" in rules
        assert "hook forward" not in rules
        assert "dev u0" in node.namespace.show("ip", "-d", "link", "show", "flannel.1")
        assert "FLANNEL_IPMASQ=true" in (FLANNEL_DIR / "subnet.env").read_text()
        assert "FLANNELD_IPTABLES_RESYNC: without effect" in node.agent.log()
