from __future__ import annotations

import errno
import json
import os
import stat
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest

from flanneld_py.cni.conf import parse as parse_conf
from flanneld_py.cni.direct import FILE_NAME, ConflistError, DirectConflist, render
from flanneld_py.subnetfile import SubnetEnv, parse

V4 = SubnetEnv(
    network=IPv4Network("10.1.0.0/16"), subnet=IPv4Network("10.1.17.0/24"), mtu=1472, ip_masq=True
)
DUAL = replace(
    V4, network6=IPv6Network("fd00:10:1::/56"), subnet6=IPv6Network("fd00:10:1:5::/64"), mtu=1430
)
GOLDEN = Path(__file__).resolve().parents[3] / "golden/cni"


@pytest.fixture
def conflist(tmp_path: Path) -> DirectConflist:
    return DirectConflist(
        text=render(V4), run_dir=tmp_path / "run", conf_dir=tmp_path / "etc/cni/net.d"
    )


def link_of(conflist: DirectConflist) -> Path:
    return conflist.conf_dir / FILE_NAME


def file_of(conflist: DirectConflist) -> Path:
    return conflist.run_dir / FILE_NAME


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- content ---------------------------------------------------------------------------------


def test_the_whole_text() -> None:
    assert json.loads(render(DUAL)) == {
        "cniVersion": "1.0.0",
        "name": "cbr0",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "hairpinMode": True,
                "isDefaultGateway": True,
                "isGateway": True,
                "ipMasq": False,
                "mtu": 1430,
                "ipam": {
                    "type": "host-local",
                    "ranges": [
                        [{"subnet": "10.1.17.0/24"}],
                        [{"subnet": "fd00:10:1:5::/64"}],
                    ],
                    "routes": [{"dst": "10.1.0.0/16"}, {"dst": "fd00:10:1::/56"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
        "flanneld-py": {"plugins": ["bridge", "portmap"]},
    }


def test_the_bridge_masquerades_where_the_agent_does_not() -> None:
    bridge = json.loads(render(replace(V4, ip_masq=False)))["plugins"][0]
    assert bridge["ipMasq"] is True


def test_an_ipv6_only_node() -> None:
    bridge = json.loads(render(replace(DUAL, network=None, subnet=None)))["plugins"][0]
    assert bridge["ipam"]["ranges"] == [[{"subnet": "fd00:10:1:5::/64"}]]
    assert bridge["ipam"]["routes"] == [{"dst": "fd00:10:1::/56"}]


@pytest.mark.parametrize("call", ["add-plain", "add-dual"])
def test_what_flannels_plugin_delegates_is_in_it(call: str) -> None:
    """flannel's plugin completes the delegate that its conflist names; ours holds the sum."""
    recorded = json.loads((GOLDEN / f"{call}.json").read_text())
    (theirs,) = recorded["state"].values()
    conflist = json.loads(render(parse(recorded["subnet.env"])))
    bridge = {**conflist["plugins"][0], **{k: conflist[k] for k in ("cniVersion", "name")}}
    assert json.loads(theirs).items() <= bridge.items()


# --- file and link ---------------------------------------------------------------------------


def test_the_link_leads_to_the_file_in_the_run_folder(conflist: DirectConflist) -> None:
    assert conflist.name == str(link_of(conflist))
    assert conflist.ensure()
    assert os.readlink(link_of(conflist)) == str(file_of(conflist))
    assert link_of(conflist).read_text() == conflist.text
    assert not file_of(conflist).is_symlink()
    assert stat.S_IMODE(file_of(conflist).stat().st_mode) == 0o644
    assert names(conflist.run_dir) == names(conflist.conf_dir) == [FILE_NAME]


def test_a_second_time_nothing_is_written(conflist: DirectConflist) -> None:
    conflist.ensure()
    before = file_of(conflist).stat(), os.lstat(link_of(conflist))
    assert not conflist.ensure()
    assert (file_of(conflist).stat(), os.lstat(link_of(conflist))) == before


def test_mode_does_not_depend_on_the_umask(conflist: DirectConflist) -> None:
    before = os.umask(0o077)
    try:
        conflist.ensure()
    finally:
        os.umask(before)
    assert stat.S_IMODE(file_of(conflist).stat().st_mode) == 0o644
    assert stat.S_IMODE(conflist.conf_dir.stat().st_mode) == 0o755


def test_a_relative_run_folder_gives_an_absolute_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    conflist = DirectConflist(text=render(V4), run_dir=Path("run"), conf_dir=Path("etc"))
    conflist.ensure()
    assert os.readlink(tmp_path / "etc" / FILE_NAME) == str(tmp_path / "run" / FILE_NAME)


def test_after_a_reboot_the_link_leads_nowhere_until_we_are_ready(
    conflist: DirectConflist,
) -> None:
    conflist.ensure()
    file_of(conflist).unlink()
    conflist.run_dir.rmdir()
    assert link_of(conflist).is_symlink()
    assert not link_of(conflist).exists()
    assert conflist.ensure()
    assert link_of(conflist).read_text() == conflist.text


def remove_link(conflist: DirectConflist) -> None:
    link_of(conflist).unlink()


def remove_file(conflist: DirectConflist) -> None:
    file_of(conflist).unlink()


def write_through_the_link(conflist: DirectConflist) -> None:
    link_of(conflist).write_text("{}")


def replace_the_link(conflist: DirectConflist) -> None:
    link_of(conflist).unlink()
    link_of(conflist).write_text("{}")


def turn_the_link(conflist: DirectConflist) -> None:
    link_of(conflist).unlink()
    link_of(conflist).symlink_to("/nowhere/at/all")


def change_the_mode(conflist: DirectConflist) -> None:
    file_of(conflist).chmod(0o600)


def put_a_fifo(conflist: DirectConflist) -> None:
    file_of(conflist).unlink()
    os.mkfifo(file_of(conflist))


def put_a_loop(conflist: DirectConflist) -> None:
    file_of(conflist).unlink()
    file_of(conflist).symlink_to(link_of(conflist))


@pytest.mark.parametrize(
    "damage",
    [
        remove_link,
        remove_file,
        write_through_the_link,
        replace_the_link,
        turn_the_link,
        change_the_mode,
        put_a_fifo,
        put_a_loop,
    ],
)
def test_damage_is_healed(conflist: DirectConflist, damage: object) -> None:
    conflist.ensure()
    assert callable(damage)
    damage(conflist)
    assert conflist.ensure()
    assert link_of(conflist).read_text() == conflist.text
    assert os.readlink(link_of(conflist)) == str(file_of(conflist))
    assert stat.S_ISREG(os.lstat(file_of(conflist)).st_mode)
    assert not conflist.ensure()


def test_new_content_replaces_the_file_and_keeps_the_link(conflist: DirectConflist) -> None:
    conflist.ensure()
    link = os.lstat(link_of(conflist)).st_ino
    changed = replace(conflist, text=render(DUAL))
    assert changed != conflist
    assert changed.ensure()
    assert link_of(conflist).read_text() == render(DUAL)
    assert os.lstat(link_of(conflist)).st_ino == link


def test_what_a_kill_left_behind_does_not_hinder(conflist: DirectConflist) -> None:
    for folder in (conflist.run_dir, conflist.conf_dir):
        folder.mkdir(parents=True)
        (folder / f".{FILE_NAME}.new").write_text("half")
    conflist.ensure()
    assert names(conflist.run_dir) == names(conflist.conf_dir) == [FILE_NAME]


def test_an_earlier_conflist_is_saved_aside_once(conflist: DirectConflist) -> None:
    conflist.conf_dir.mkdir(parents=True)
    link_of(conflist).write_text("flannel's own")
    conflist.ensure()
    saved = conflist.conf_dir / f"{FILE_NAME}.orig"
    assert saved.read_text() == "flannel's own"
    assert link_of(conflist).read_text() == conflist.text
    replace_the_link(conflist)
    conflist.ensure()
    assert saved.read_text() == "flannel's own"
    assert names(conflist.conf_dir) == [FILE_NAME, saved.name]


def test_an_earlier_link_is_saved_as_a_link(conflist: DirectConflist, tmp_path: Path) -> None:
    conflist.conf_dir.mkdir(parents=True)
    (tmp_path / "elsewhere").write_text("flannel's own")
    link_of(conflist).symlink_to(tmp_path / "elsewhere")
    conflist.ensure()
    assert os.readlink(conflist.conf_dir / f"{FILE_NAME}.orig") == str(tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere").read_text() == "flannel's own"


# --- errors ----------------------------------------------------------------------------------


def test_a_folder_under_the_name_is_named_and_left(conflist: DirectConflist) -> None:
    link_of(conflist).mkdir(parents=True)
    with pytest.raises(ConflistError) as caught:
        conflist.ensure()
    assert caught.value.errno == errno.EISDIR
    assert caught.value.path == conflist.name
    assert "remove the folder that stands there, or choose another folder with" in str(caught.value)
    assert "--cni-conf-dir" in caught.value.remedy
    assert link_of(conflist).is_dir()


def test_a_path_that_cannot_be_a_folder_names_the_flag(conflist: DirectConflist) -> None:
    conflist.run_dir.write_text("a file")
    with pytest.raises(ConflistError) as caught:
        conflist.ensure()
    assert caught.value.path == str(file_of(conflist))
    assert "a part of the path is no folder" in caught.value.remedy
    assert "--run-dir" in caught.value.remedy
    assert not conflist.conf_dir.exists()


def test_the_runtimes_folder_cannot_be_made(conflist: DirectConflist, tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("a file")
    with pytest.raises(ConflistError) as caught:
        conflist.ensure()
    assert caught.value.path == conflist.name
    assert "--cni-conf-dir" in caught.value.remedy


# --- others in the folder --------------------------------------------------------------------


def chain_in(conflist: DirectConflist, *, through_the_link: bool) -> str:
    """Add a plugin as service meshes do: read, append, write or rename."""
    found = json.loads(link_of(conflist).read_text())
    found["plugins"].append({"type": "mesh", "level": "info"})
    text = json.dumps(found)
    if through_the_link:
        link_of(conflist).write_text(text)
    else:
        new = conflist.conf_dir / "tmp123"
        new.write_text(text)
        new.replace(link_of(conflist))
    return text


def plugins(conflist: DirectConflist) -> list[str]:
    return [one["type"] for one in json.loads(link_of(conflist).read_text())["plugins"]]


def test_a_plugin_that_is_chained_in_through_the_link_is_no_drift(
    conflist: DirectConflist,
) -> None:
    conflist.ensure()
    text = chain_in(conflist, through_the_link=True)
    assert not conflist.ensure()
    assert link_of(conflist).read_text() == text
    assert conflist.others() == ("mesh",)


def test_a_plugin_that_is_chained_in_by_rename_is_kept_behind_the_link(
    conflist: DirectConflist,
) -> None:
    conflist.ensure()
    chain_in(conflist, through_the_link=False)
    assert conflist.ensure()
    assert os.readlink(link_of(conflist)) == str(file_of(conflist))
    assert plugins(conflist) == ["bridge", "portmap", "mesh"]
    assert not conflist.ensure()
    assert names(conflist.conf_dir) == [FILE_NAME], "ours is not worth saving"


def test_new_content_keeps_what_others_chained_in(conflist: DirectConflist) -> None:
    conflist.ensure()
    chain_in(conflist, through_the_link=True)
    changed = replace(conflist, text=render(replace(V4, mtu=1400)))
    assert changed.ensure()
    assert plugins(conflist) == ["bridge", "portmap", "mesh"]
    assert json.loads(link_of(conflist).read_text())["plugins"][0]["mtu"] == 1400
    assert not changed.ensure()


def test_a_plugin_that_its_owner_takes_out_is_gone(conflist: DirectConflist) -> None:
    conflist.ensure()
    chain_in(conflist, through_the_link=True)
    link_of(conflist).write_text(conflist.text)
    assert not conflist.ensure()
    assert plugins(conflist) == ["bridge", "portmap"]
    assert conflist.others() == ()


def test_what_was_chained_into_flannels_own_is_taken_over(conflist: DirectConflist) -> None:
    conflist.conf_dir.mkdir(parents=True)
    before = {"name": "cbr0", "plugins": [{"type": t} for t in ("flannel", "portmap", "mesh")]}
    link_of(conflist).write_text(json.dumps(before))
    conflist.ensure()
    assert plugins(conflist) == ["bridge", "portmap", "mesh"]
    assert json.loads((conflist.conf_dir / f"{FILE_NAME}.orig").read_text()) == before


def test_a_file_that_sorts_before_is_named_and_left(conflist: DirectConflist) -> None:
    conflist.ensure()
    assert conflist.remarks() == ()
    for name in ("05-cilium.conflist", "00-x.conf", "20-other.conflist", "01-readme.txt"):
        (conflist.conf_dir / name).write_text("theirs")
    (remark,) = conflist.remarks()
    assert "00-x.conf, 05-cilium.conflist, which runtimes prefer" in remark
    assert not conflist.ensure()
    assert (conflist.conf_dir / "05-cilium.conflist").read_text() == "theirs"
    assert replace(conflist, conf_dir=conflist.conf_dir / "none").remarks() == ()


def test_the_configured_cni_conf_is_followed() -> None:
    conf = parse_conf(
        '{"name": "pods", "cniVersion": "0.3.1", "plugins": [{"type": "flannel", "delegate": '
        '{"bridge": "br7"}}, {"type": "bandwidth"}]}'
    )
    found = json.loads(render(V4, conf))
    assert (found["name"], found["cniVersion"]) == ("pods", "0.3.1")
    assert found["plugins"][0]["bridge"] == "br7"
    assert found["flanneld-py"] == {"plugins": ["bridge", "bandwidth"]}
