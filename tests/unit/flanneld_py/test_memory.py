"""What a node remembers over restarts, and what it does not take over from another machine."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from flanneld_py import memory as memory_module
from flanneld_py.memory import Memory, Present
from flanneld_py.settingsbefore import FILE_NAME, SettingsBefore, SettingsBeforeError
from subnet.identity import KnownStore
from subnet.intents import KeeperState, Phase
from subnet.model import StoreIdentity
from tests.leases import lease, mac

SOURCE = "etcd http://127.0.0.1:2379 /coreos.com/network"
STORE = KnownStore(
    identity=StoreIdentity(cluster_id=7, revision=100, config_create_revision=2),
    own_key=None,
    own_create_revision=0,
)
FORWARD = "net/ipv4/ip_forward"


def make(folder: Path, *, source: str = SOURCE) -> Memory:
    return Memory(state_dir=folder / "state", subnet_file=folder / "subnet.env", source=source)


def present(
    subnet: str = "10.244.3.0/24",
    *,
    ready: bool = True,
    now: float = 1000.0,
    store: KnownStore = STORE,
    number: int = 1,
) -> Present:
    state = KeeperState(
        phase=Phase.HELD if ready else Phase.LOST,
        lease=lease(subnet),
        ready=ready,
        expires_at=now + 3600,
    )
    return Present(state=state, mac=mac(number), mac6=b"", store=store, now=now)


def saved_at(folder: Path) -> int:
    return (folder / "state" / "lease.json").stat().st_ino


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def test_nothing_is_known_at_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    memory = make(tmp_path)
    assert (memory.mac, memory.mac6, memory.known_store, memory.previous) == (None, None, None, ())
    assert caplog.records == []


def test_lease_macs_and_store_are_known_to_the_next_start(tmp_path: Path) -> None:
    make(tmp_path).remember(present())
    memory = make(tmp_path)
    assert memory.mac == mac(1)
    assert memory.mac6 is None
    assert memory.known_store == STORE
    (previous,) = memory.previous
    assert previous.lease == lease("10.244.3.0/24")
    assert str(previous.subnet) == "10.244.3.0/24"


def test_subnet_env_is_preferred_to_the_cache(tmp_path: Path) -> None:
    make(tmp_path).remember(present())
    (tmp_path / "subnet.env").write_text(
        "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.9.1/24\nFLANNEL_MTU=1450\n"
    )
    assert [str(one.subnet) for one in make(tmp_path).previous] == [
        "10.244.9.0/24",
        "10.244.3.0/24",
    ]


def test_a_damaged_subnet_env_costs_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "subnet.env").mkdir()
    assert make(tmp_path).previous == ()
    (said,) = warnings(caplog)
    assert "subnet.env" in said


def test_another_store_is_not_taken_for_the_one_we_knew(tmp_path: Path) -> None:
    make(tmp_path).remember(present())
    memory = make(tmp_path, source="etcd http://10.0.0.1:2379 /coreos.com/network")
    assert memory.known_store is None
    assert memory.mac == mac(1), "the device is still the same"


def test_what_another_machine_remembered_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    memory = make(tmp_path)
    memory.remember(present())
    memory.remember_settings({FORWARD: "0"})
    for name in ("lease.json", FILE_NAME):
        path = tmp_path / "state" / name
        document = json.loads(path.read_text())
        assert document["machine_id"] == memory_module._machine_id()
        document["machine_id"] = "another"
        path.write_text(json.dumps(document))
    memory = make(tmp_path)
    assert (memory.mac, memory.previous, memory.known_store) == (None, (), None)
    memory.remember_settings({FORWARD: "1"})
    kept = json.loads((tmp_path / "state" / FILE_NAME).read_text())
    assert kept["settings"] == {FORWARD: "1"}
    assert (tmp_path / "state" / f"{FILE_NAME}.foreign").exists()
    assert (tmp_path / "state" / "lease.json.foreign").exists()
    assert len(warnings(caplog)) == 2


def test_only_a_lease_that_is_ours_is_remembered(tmp_path: Path) -> None:
    memory = make(tmp_path)
    memory.remember(present(ready=False))
    memory.remember(Present(state=KeeperState(), mac=mac(1), mac6=b"", store=STORE, now=1000.0))
    assert not (tmp_path / "state").exists()


def test_it_writes_when_something_is_new_and_a_revision_alone_is_not(tmp_path: Path) -> None:
    memory = make(tmp_path)
    memory.remember(present())
    first = saved_at(tmp_path)
    later = KnownStore(identity=StoreIdentity(cluster_id=7, revision=101, config_create_revision=2))
    memory.remember(present())
    memory.remember(present(store=later, now=1059.0))
    assert saved_at(tmp_path) == first
    memory.remember(present(store=later, now=1061.0))
    second = saved_at(tmp_path)
    assert second != first
    memory.remember(present(store=later, now=1062.0, number=2))
    assert saved_at(tmp_path) != second
    assert make(tmp_path).mac == mac(2)


def test_a_folder_that_cannot_be_written_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file")
    memory = make(tmp_path)
    caplog.clear()
    for number in range(5):
        memory.remember(present(number=number + 1))
        memory.remember_settings({FORWARD: "0", f"net/other{number}": "1"})
    said = warnings(caplog)
    assert sum("lease is not remembered" in text for text in said) == 1
    assert sum("kernel settings" in text for text in said) == 1
    assert all("--state-dir" in text for text in said)
    (tmp_path / "state").unlink()
    memory.remember(present(number=9))
    memory.remember_settings({FORWARD: "0", "net/new": "1"})
    assert make(tmp_path).mac == mac(9)
    assert (tmp_path / "state" / FILE_NAME).exists()


# -- settings


def test_the_first_value_of_a_setting_wins_over_restarts(tmp_path: Path) -> None:
    make(tmp_path).remember_settings({FORWARD: "0"})
    make(tmp_path).remember_settings({FORWARD: "1", "net/b": "7"})
    settings = SettingsBefore(tmp_path / "state", machine_id=memory_module._machine_id())
    assert dict(settings.values) == {FORWARD: "0", "net/b": "7"}
    assert settings.path.stat().st_mode & 0o777 == 0o600


def test_nothing_is_written_without_news(tmp_path: Path) -> None:
    settings = SettingsBefore(tmp_path, machine_id="m")
    settings.add({})
    assert not settings.path.exists()
    settings.add({FORWARD: "0"})
    first = settings.path.stat().st_ino
    settings.add({FORWARD: "1"})
    SettingsBefore(tmp_path, machine_id="m").add({FORWARD: "1"})
    assert settings.path.stat().st_ino == first
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME], "no temporary file is left"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"version": 2, "machine_id": "m", "settings": {}}',
        '{"version": 1, "machine_id": "m", "settings": {"a": 1}}',
        '{"version": 1, "machine_id": "m", "settings": []}',
        "[" * 100_000,
        '"' + "x" * (2 << 20),
    ],
    ids=range(9),
)
def test_a_damaged_file_is_set_aside(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    settings = SettingsBefore(tmp_path, machine_id="m")
    settings.add({FORWARD: "0"})
    assert (tmp_path / f"{FILE_NAME}.damaged").read_text() == text
    assert dict(SettingsBefore(tmp_path, machine_id="m").values) == {FORWARD: "0"}
    assert len(warnings(caplog)) == 1


def test_a_failure_names_the_file_and_is_not_repeated_without_news(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.write_text("")
    settings = SettingsBefore(folder, machine_id="m")
    with pytest.raises(SettingsBeforeError, match=FILE_NAME):
        settings.add({FORWARD: "0"})
    settings.add({FORWARD: "0"})
    with pytest.raises(SettingsBeforeError):
        settings.add({FORWARD: "0", "net/b": "1"})


def test_what_cannot_be_read_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    settings = SettingsBefore(tmp_path, machine_id="m")
    with pytest.raises(SettingsBeforeError):
        settings.add({FORWARD: "0"})
    assert (tmp_path / FILE_NAME).is_dir()
