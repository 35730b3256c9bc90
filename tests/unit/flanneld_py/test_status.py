from __future__ import annotations

import json

import pytest

from flanneld_py.status import (
    MAX_CHANGES,
    MAX_PEERS,
    BackendStatus,
    Change,
    ChangeLog,
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
    StatusFormatError,
    StoreStatus,
    decode,
    encode,
)

FULL = Status(
    version="1.2.3",
    pid=7,
    started=1.0,
    now=2.5,
    ready=True,
    reasons=(),
    lease=LeaseStatus(
        phase=LeasePhase.HELD, key="/k", subnets=("10.244.1.0/24", "fd00::/64"), expires_in=3.5
    ),
    interface=InterfaceStatus(
        name="eth0",
        reason="default route",
        addresses=("10.0.0.1",),
        public_ips=("192.0.2.1",),
        mtu=1500,
    ),
    backend=BackendStatus(
        type="vxlan", devices=("flannel.1",), vni=1, port=8472, mtu=1450, nexthops=True
    ),
    peers=PeersStatus.of(
        [PeerStatus(key="/p", state=PeerState.QUARANTINED, subnets=("x",), reason="no")],
        programmed=3,
    ),
    elements=ElementsStatus(
        kinds=(KindCounts(kind="route", desired=2, observed=1, dirty=1, failing=1),),
        failing=(FailingElement(element="route x", reason="EEXIST", tries=2, next_try_in=0.5),),
    ),
    store=StoreStatus(source="etcd http://a:1 /p", connected=True, revision=9),
    changes=(Change(at=1.5, text="lease acquired"),),
    warnings=("rp_filter",),
)


@pytest.mark.parametrize("status", [Status(), FULL])
def test_json_and_back(status: Status) -> None:
    assert decode(encode(status)) == status


def test_the_json_says_its_version_and_uses_plain_words() -> None:
    found = json.loads(encode(FULL))
    assert found["api"] == 1
    assert found["lease"]["phase"] == "held"
    assert found["lease"]["subnets"] == ["10.244.1.0/24", "fd00::/64"]
    assert found["peers"]["counts"] == {"programmed": 3, "quarantined": 1}
    assert found["peers"]["listed"][0]["state"] == "quarantined"
    assert found["backend"]["vni"] == 1


def test_fields_of_a_newer_agent_are_ignored() -> None:
    found = json.loads(encode(FULL))
    found["news"] = 1
    found["lease"]["news"] = [2]
    assert decode(json.dumps(found).encode()) == FULL


@pytest.mark.parametrize("data", [b"", b"hello", b"[]", b'{"ready": "yes"}', b'{"api": 2}'])
def test_what_is_no_status_of_ours_is_refused(data: bytes) -> None:
    with pytest.raises(StatusFormatError):
        decode(data)


def test_peers_in_trouble_are_listed_first_and_the_list_is_bounded() -> None:
    peers = [PeerStatus(key=f"/{n:05}", state=PeerState.PENDING) for n in range(1000)]
    peers.append(PeerStatus(key="/zz", state=PeerState.FAILING, reason="ENOSPC"))
    found = PeersStatus.of(peers, programmed=9000)
    assert found.listed[0].key == "/zz"
    assert [peer.key for peer in found.listed[1:3]] == ["/00000", "/00001"]
    assert len(found.listed) == MAX_PEERS
    assert found.omitted == 10001 - MAX_PEERS
    assert found.counts == {"failing": 1, "pending": 1000, "programmed": 9000}


def test_no_peers_at_all() -> None:
    assert PeersStatus.of([]) == PeersStatus()


def test_the_latest_changes_are_kept() -> None:
    log = ChangeLog()
    for number in range(MAX_CHANGES + 5):
        log.add(f"change {number}", at=float(number))
    found = log.latest()
    assert len(found) == MAX_CHANGES
    assert found[0] == Change(at=5.0, text="change 5")
    assert found[-1].text == f"change {MAX_CHANGES + 4}"
