from __future__ import annotations

import pytest

from flanneld_py.cli.statusview import BAD, GOOD, folded, print_status, rows, span
from flanneld_py.status import (
    BackendStatus,
    Change,
    ElementsStatus,
    FailingElement,
    InterfaceStatus,
    KindCounts,
    LeasePhase,
    LeaseStatus,
    PeersStatus,
    PeerState,
    PeerStatus,
    Status,
    StoreStatus,
)

WELL = Status(
    version="1.2.3",
    pid=7,
    started=1000.0,
    now=1000.0 + 3600 * 3 + 65,
    ready=True,
    lease=LeaseStatus(
        phase=LeasePhase.HELD, key="/k", subnets=("10.244.1.0/24",), expires_in=86399.0
    ),
    interface=InterfaceStatus(
        name="eth0",
        reason="it has the default route",
        addresses=("10.0.0.1",),
        public_ips=("192.0.2.1",),
        mtu=1500,
    ),
    backend=BackendStatus(
        type="vxlan", devices=("flannel.1",), vni=1, port=8472, mtu=1450, nexthops=True
    ),
    peers=PeersStatus.of([], programmed=2),
    elements=ElementsStatus(kinds=(KindCounts(kind="route", desired=2, observed=2),)),
    store=StoreStatus(source="etcd http://a:1 /p", connected=True, revision=9),
    changes=(Change(at=0.0, text="lease acquired"),),
)


def shown(status: Status) -> dict[str, str]:
    return {row.label: row.text for row in rows(status) if row.label}


def test_a_node_that_is_well() -> None:
    assert shown(WELL) == {
        "agent": "flanneld-py 1.2.3, pid 7, running for 3 h 1 min",
        "ready": "yes",
        "lease": "10.244.1.0/24, held, ends in 23 h 59 min unless renewed, /k",
        "interface": "eth0 10.0.0.1, published as 192.0.2.1, mtu 1500, it has the default route",
        "backend": "vxlan flannel.1, VNI 1, UDP port 8472, pods' mtu 1450, "
        "routes by nexthop objects",
        "store": "etcd http://a:1 /p, connected, revision 9",
        "peers": "2 programmed",
        "kernel": "2 elements, all as they should be",
        "changes": "1970-01-01 00:00:00Z lease acquired",
    }
    assert [row.style for row in rows(WELL) if row.label == "ready"] == [GOOD]


def test_a_node_that_waits() -> None:
    found = shown(Status(reasons=("no answer from etcd",), warnings=("rp_filter is 1",)))
    assert found["ready"] == "no: no answer from etcd"
    assert found["lease"] == "none, waiting"
    assert found["backend"] == "unknown: no usable network config yet"
    assert found["store"].endswith("not connected: no reason is given")
    assert found["warnings"] == "rp_filter is 1"
    assert found["peers"] == "none"


def test_what_fails_is_named_with_reason_and_next_try() -> None:
    status = Status(
        elements=ElementsStatus(
            kinds=(
                KindCounts(kind="route", desired=3, observed=1, dirty=1, failing=1),
                KindCounts(kind="link", desired=1, observed=1),
            ),
            failing=(FailingElement(element="route x", reason="EEXIST", tries=3, next_try_in=2.0),),
        ),
        peers=PeersStatus.of(
            [
                PeerStatus(
                    key="/p",
                    state=PeerState.NOT_PROGRAMMED,
                    subnets=("10.244.9.0/24",),
                    public_ips=("192.0.2.9",),
                    reason="its VNI is 7, ours 1",
                ),
                PeerStatus(key="/bad", state=PeerState.QUARANTINED, reason="no JSON"),
            ],
            programmed=5,
        ),
    )
    texts = [row.text for row in rows(status)]
    assert "5 programmed, 1 quarantined, 1 not programmed" in texts
    assert "10.244.9.0/24 at 192.0.2.9: not programmed: its VNI is 7, ours 1" in texts
    assert "/bad: quarantined: no JSON" in texts
    assert "route 1 of 3 1 to do 1 failing" in texts
    (failing,) = [row for row in rows(status) if row.text.startswith("route x")]
    assert failing.text == "route x: EEXIST (tried 3 times, again in 2 s)"
    assert failing.style == BAD


def test_programmed_peers_are_listed_when_all_are_asked_for() -> None:
    peers = PeersStatus.of([PeerStatus(key="/p", state=PeerState.PROGRAMMED)], programmed=300)
    status = Status(peers=peers)
    assert "/p: programmed" not in [row.text for row in rows(status)]
    texts = [row.text for row in rows(status, all_peers=True)]
    assert "/p: programmed" in texts
    assert "and 300 more, which are only counted" in texts


def test_what_comes_from_the_store_is_no_markup_and_no_escape(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    hostile = PeerStatus(key="[red]\x1b[2J\n/k", state=PeerState.QUARANTINED, reason=":smile: [/x]")
    print_status(Status(peers=PeersStatus.of([hostile])))
    out = capsys.readouterr().out
    assert "[red]\\x1b[2J\\n/k: quarantined: :smile: [/x]" in out
    assert "\x1b" not in out


def test_a_narrow_terminal_is_not_overrun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    print_status(WELL)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 40
    assert "backend    vxlan flannel.1, VNI 1, UDP" in lines
    assert "           port 8472, pods' mtu 1450," in lines


def test_in_a_pipe_each_row_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    long = Status(warnings=("word " * 100 + "end",))
    print_status(long)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(rows(long))
    assert any(line.startswith("warnings   word") and line.endswith("end") for line in lines)


@pytest.mark.parametrize("width", [1, 31, 80])
def test_folding_loses_no_word(width: int) -> None:
    text = "a-b " * 40 + "x" * 100
    assert "".join("".join(folded(text, width)).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3605, "1 h"), (90061, "1 d 1 h")],
)
def test_spans_have_two_units_at_most(seconds: float, text: str) -> None:
    assert span(seconds) == text
