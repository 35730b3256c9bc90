"""The firewall beside everything else: what it is told, and what waits for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from flanneld_py.firewall import OWN_TABLE, FirewallError
from flanneld_py.settings import FirewallSettings
from tests.unit.flanneld_py.agent_on_fakes import CONFIG, Host

MASQUERADE = FirewallSettings(ip_masq=True)
MISSING = FirewallError("nft is missing", remedy="install the package nftables")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    host.backend.put_config(CONFIG)
    return host


async def test_rules_stand_before_pods_are_told_of_the_subnet(host: Host) -> None:
    async with host.agent(firewall=MASQUERADE) as run:
        assert run.ready() == ()
        assert OWN_TABLE in host.ruleset.content
        assert "FLANNEL_IPMASQ=true" in host.subnet_file.read_text()


async def test_without_the_rules_that_were_asked_for_pods_wait_and_the_reason_is_said(
    host: Host,
) -> None:
    host.ruleset.refuses = MISSING
    async with host.agent(firewall=MASQUERADE) as run:
        assert not host.subnet_file.exists()
        (reason,) = run.ready()
        assert "nft is missing" in reason
        assert "install the package nftables" in reason
        host.ruleset.refuses = None
        await run.settle(6)
        assert run.ready() == ()
        assert host.subnet_file.exists()


async def test_missing_forward_rules_are_a_warning_and_keep_no_pod_waiting(host: Host) -> None:
    host.ruleset.refuses = MISSING
    async with host.agent() as run:
        assert run.ready() == ()
        assert host.subnet_file.exists()
        assert any("nft is missing" in text for text in run.agent.overview.status().warnings)


async def test_no_rules_leave_no_table(host: Host) -> None:
    async with host.agent():
        assert OWN_TABLE in host.ruleset.content
    async with host.agent(firewall=FirewallSettings(forward_rules=False)) as run:
        assert run.ready() == ()
        assert OWN_TABLE not in host.ruleset.content
