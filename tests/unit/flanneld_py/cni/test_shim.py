from __future__ import annotations

import ast
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flanneld_py import __version__
from flanneld_py.cni import shim
from tests.unit.flanneld_py.cni.shimbox import CONTAINER, ENV, SHIM, ShimBox

FAILS = 'echo \'{"code": 123, "msg": "no luck"}\'; exit 1'
GARBAGE = "cni.dev/valid-attachments"


@pytest.fixture
def box(tmp_path: Path) -> ShimBox:
    return ShimBox(tmp_path)


# --- the file itself --------------------------------------------------------------------------


def test_the_syntax_is_that_of_python_3_6() -> None:
    tree = ast.parse(SHIM.read_text(), feature_version=(3, 6))
    later = (ast.NamedExpr, ast.Match, ast.TryStar)
    assert not [node for node in ast.walk(tree) if isinstance(node, later)]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert not node.args.posonlyargs
            for note in (node.returns, *(argument.annotation for argument in node.args.args)):
                # Python 3.6 would evaluate `list[str]`; text it leaves alone.
                assert note is None or isinstance(note, ast.Constant | ast.Name), node.name


def test_it_imports_little_and_only_the_standard_library() -> None:
    tree = ast.parse(SHIM.read_text())
    at_once = {
        alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names
    }
    assert at_once == {"os", "sys"}
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {str(name).partition(".")[0].removeprefix("_") for name in names} <= {
        *sys.stdlib_module_names,
    }


@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_no_heavy_module_is_loaded_for_a_pod(box: ShimBox, command: str) -> None:
    """What `re`, `enum` and `subprocess` cost would be paid for every pod."""
    box.call("ADD")
    seen = box.folder / "modules"
    loader = (
        "import sys, runpy, os; real = os.execve, os._exit\n"
        f"def note(): open({str(seen)!r}, 'w').write(' '.join(sys.modules))\n"
        "def execve(*a): note(); real[0](*a)\n"
        "os.execve = execve\n"
        f"exec(compile(open({str(SHIM)!r}).read(), 'shim', 'exec'))"
    )
    subprocess.run(
        [sys.executable, "-IS", "-c", loader],
        input=json.dumps(box.conf()).encode(),
        env={
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": CONTAINER,
            "CNI_NETNS": "/x",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(box.bin),
            "PATH": os.environ["PATH"],
        },
        check=True,
        capture_output=True,
    )
    loaded = set(seen.read_text().split())
    assert not loaded & {"json", "re", "enum", "socket", "subprocess", "typing", "signal"}


def test_its_version_is_ours() -> None:
    assert __version__ == shim.VERSION


@pytest.mark.parametrize("version", ["3.6", "3.7", "3.8", "3.9", "3.12", "3.13", "3.14"])
def test_other_pythons_that_are_here(tmp_path: Path, version: str) -> None:
    """On a machine with that Python; the grammar is checked everywhere."""
    python = python_of(version)
    if python is None:
        return
    box = ShimBox(tmp_path, python=python)
    box.env_file.write_text(ENV + "FLANNEL_IPV6_NETWORK=fd00::/48\nFLANNEL_IPV6_SUBNET=fd00::1/64")
    conf = box.conf(delegate={"x": [1, 1.5, None, True, "é<&>"]}, cniVersion="1.1.0")
    assert box.call("ADD", conf).status == 0
    assert '"x":[1,1.5,null,true,"é\\u003c\\u0026\\u003e"]' in box.states()[CONTAINER]
    for command in ("CHECK", "STATUS", "DEL"):
        assert box.call(command, conf).status == 0, command
    assert box.call("GC", {**conf, GARBAGE: []}).status == 0
    assert box.call("ADD", b"{").code == 6
    assert box.call("ADD", b"[1, 2").code == 6
    box.env_file.unlink()
    assert box.call("ADD", conf).code == 11


def python_of(version: str) -> str | None:
    """A real interpreter of that version; version managers leave names that only complain."""
    found = shutil.which(f"python{version}")
    ask = "import sys; print(sys.executable)"
    if found is None:
        return None
    done = subprocess.run([found, "-c", ask], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


# --- ADD --------------------------------------------------------------------------------------


def test_the_answer_of_the_delegate_is_ours(box: ShimBox) -> None:
    answer = box.call("ADD")
    assert answer.status == 0
    assert answer.json["ips"] == [{"address": "10.1.17.2/24"}]
    assert box.calls() == ["ADD ctr1 eth0 /run/netns/pod"]


def test_state_is_private_and_nothing_stays_beside_it(box: ShimBox) -> None:
    before = os.umask(0)
    try:
        box.call("ADD")
    finally:
        os.umask(before)
    assert list(box.states()) == [CONTAINER]
    assert stat.S_IMODE((box.data_dir / CONTAINER).stat().st_mode) == 0o600
    assert stat.S_IMODE(box.data_dir.stat().st_mode) == 0o700


def test_state_is_replaced_never_overwritten(box: ShimBox) -> None:
    """A crash in between must leave the old state or the new one (fault C3)."""
    box.call("ADD")
    before = (box.data_dir / CONTAINER).stat().st_ino
    kept = box.folder / "kept"
    os.link(box.data_dir / CONTAINER, kept)
    box.env_file.write_text(ENV.replace("1472", "1400"))
    box.call("ADD")
    assert (box.data_dir / CONTAINER).stat().st_ino != before
    assert '"mtu":1472' in kept.read_text()
    assert '"mtu":1400' in box.states()[CONTAINER]


def test_what_a_kill_left_behind_does_not_hinder(box: ShimBox) -> None:
    box.data_dir.mkdir()
    (box.data_dir / f".{CONTAINER}.new").write_text("a longer half of something " * 100)
    assert box.call("ADD").status == 0
    assert list(box.states()) == [CONTAINER]
    assert box.given("ADD")["name"] == "cbr0"


def test_state_stays_when_the_delegate_fails(box: ShimBox) -> None:
    box.delegate("bridge", FAILS)
    answer = box.call("ADD")
    assert (answer.code, answer.msg) == (123, "no luck")
    assert list(box.states()) == [CONTAINER]


def test_two_interfaces_have_two_states(box: ShimBox) -> None:
    """Fault C2: flannel's plugin has one file per container."""
    box.call("ADD")
    box.call("ADD", box.conf(name="other"), CNI_IFNAME="net1")
    assert {name: json.loads(text)["name"] for name, text in box.states().items()} == {
        CONTAINER: "cbr0",
        f"{CONTAINER}:net1": "other",
    }
    assert box.call("DEL", box.conf(name="other"), CNI_IFNAME="net1").status == 0
    assert list(box.states()) == [CONTAINER]
    assert box.given("DEL", interface="net1")["name"] == "other"


def test_a_result_before_ours_is_not_passed_on(box: ShimBox) -> None:
    box.call("ADD", box.conf(prevResult={"cniVersion": "1.0.0"}))
    assert "prevResult" not in box.given("ADD")


def test_keys_in_any_case_as_flannels(box: ShimBox) -> None:
    conf = box.conf()
    conf["SubnetFILE"] = conf.pop("subnetFile")
    assert box.call("ADD", conf).status == 0


def test_no_dump_on_standard_error(box: ShimBox) -> None:
    """Fault C5."""
    assert box.call("ADD").stderr == ""


def test_a_plugin_that_is_being_written_is_tried_again(box: ShimBox) -> None:
    plugin = box.bin / "bridge"
    shutil.copy("/bin/true", plugin)
    writer = plugin.open("r+b")
    timer = threading.Timer(0.5, writer.close)
    timer.start()
    try:
        assert box.call("ADD").status == 0
        assert writer.closed
    finally:
        timer.join()


@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_a_plugin_that_cannot_be_run_is_named(box: ShimBox, command: str) -> None:
    box.call("ADD")
    (box.bin / "bridge").write_bytes(b"\x7fELF and no more")
    answer = box.call(command)
    assert answer.code == 5
    assert str(box.bin / "bridge") in answer.msg


def test_it_never_calls_itself(box: ShimBox) -> None:
    shutil.copy(SHIM, box.bin / "shim.py")
    assert box.call("ADD", box.conf(delegate={"type": "shim.py"})).code == 7


def test_sigpipe_is_not_ignored_in_the_delegate(box: ShimBox) -> None:
    box.delegate("bridge", 'grep SigIgn /proc/$$/status > "$(dirname $0)/../ignored"')
    for command in ("ADD", "DEL"):
        box.call(command)
        ignored = int((box.folder / "ignored").read_text().split()[1], 16)
        assert not ignored & 1 << 12, command


# --- waiting for the agent --------------------------------------------------------------------


def test_add_waits_for_the_agent(box: ShimBox) -> None:
    box.env_file.unlink()
    timer = threading.Timer(0.4, box.env_file.write_text, [ENV])
    timer.start()
    try:
        assert box.call("ADD", box.conf(waitSeconds=15)).status == 0
    finally:
        timer.join()


def serve(path: Path, answer: bytes) -> Callable[[], None]:
    """An agent that answers one request; call the result to end it."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()

    def run() -> None:
        connection, _ = listening.accept()
        with connection:
            assert connection.recv(4096).startswith(b"GET /readyz ")
            connection.sendall(answer)

    thread = threading.Thread(target=run)
    thread.start()

    def end() -> None:
        thread.join()
        listening.close()

    return end


def test_the_agents_own_reason_is_told(box: ShimBox) -> None:
    box.env_file.unlink()
    end = serve(
        box.run_dir / "agent.sock",
        b"HTTP/1.1 503 Service Unavailable\r\nX: y\r\n\r\nflanneld is not ready yet\n"
        b"etcd does not answer\nno lease\n",
    )
    answer = box.call("ADD", box.conf(waitSeconds=0.2))
    end()
    assert answer.code == 11
    assert answer.msg == (
        f"{box.env_file} is not there after 0.2 s: "
        "flanneld-py is not ready: etcd does not answer; no lease"
    )


def test_an_agent_that_is_ready_writes_elsewhere(box: ShimBox) -> None:
    box.env_file.unlink()
    end = serve(box.run_dir / "agent.sock", b"HTTP/1.1 200 OK\r\n\r\nflanneld is ready\n")
    answer = box.call("ADD")
    end()
    assert "--subnet-file" in answer.msg


def test_a_silent_agent_is_not_waited_for_long(box: ShimBox) -> None:
    box.env_file.unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(box.run_dir / "agent.sock"))
        listening.listen()
        assert "timed out" in box.call("ADD", within=10).msg


def test_without_an_agent_its_socket_is_named(box: ShimBox) -> None:
    box.env_file.unlink()
    assert f"{box.run_dir}/agent.sock" in box.call("ADD").msg


# --- subnet.env -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        ENV,
        ENV.replace("\n", "\r\n"),
        ENV.replace("=", ' = "').replace("\n", '" # said\n'),
        "# ours\n\nexport " + ENV.replace("\n", "\nexport ") + "NOTHING",
        ENV.replace("=", ": '").replace("\n", "'\n"),
        "FLANNEL_MTU\nFLANNEL_SUBNET\n" + ENV,
        ENV.replace("10.1.0.0/16", "10.1.0.0/16, 10.1.7.9/16"),
    ],
)
def test_a_subnet_env_that_others_wrote(box: ShimBox, text: str) -> None:
    box.env_file.write_text(text)
    assert box.call("ADD").status == 0
    conf = box.given("ADD")
    assert (conf["mtu"], conf["ipMasq"]) == (1472, False)
    assert conf["ipam"]["ranges"] == [[{"subnet": "10.1.17.0/24"}]]
    assert conf["ipam"]["routes"] == [{"dst": "10.1.0.0/16"}]


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("10.1.17.1/24", "10.1.17.1", "FLANNEL_SUBNET=10.1.17.1"),
        ("10.1.17.1/24", "10.1.17.1/24,10.1.18.1/24", "FLANNEL_SUBNET has more than one"),
        ("10.1.17.1/24", "fd00::1/64", "FLANNEL_SUBNET=fd00::1/64"),
        ("10.1.17.1/24", "10.1.17.01/24", "FLANNEL_SUBNET="),
        ("10.1.0.0/16", "10.1.0.0/33", "FLANNEL_NETWORK="),
        ("1472", "4294967296", "FLANNEL_MTU="),
        ("1472", "-1", "FLANNEL_MTU="),
        ("1472", "", "missing FLANNEL_MTU"),
        ("FLANNEL_IPMASQ", "FLANNEL_MASQ", "missing FLANNEL_IPMASQ"),
    ],
)
def test_a_damaged_subnet_env_is_named(box: ShimBox, old: str, new: str, named: str) -> None:
    box.env_file.write_text(ENV.replace(old, new))
    answer = box.call("ADD")
    assert answer.code == 6
    assert named in answer.msg
    assert str(box.env_file) in answer.msg
    assert box.states() == {}


def test_anything_but_true_is_false(box: ShimBox) -> None:
    box.env_file.write_text(ENV.replace("=true", "=TRUE"))
    box.call("ADD")
    assert box.given("ADD")["ipMasq"] is True


# --- DEL --------------------------------------------------------------------------------------


def test_del_undoes_what_was_done_whatever_holds_today(box: ShimBox) -> None:
    box.call("ADD")
    added = box.given("ADD")
    box.env_file.unlink()
    answer = box.call("DEL", box.conf(delegate={"mtu": 9}), CNI_NETNS=None)
    assert (answer.status, answer.stdout, box.states()) == (0, "", {})
    assert box.given("DEL") == added
    assert box.calls()[-1] == "DEL ctr1 eth0"


def test_a_second_del_succeeds(box: ShimBox) -> None:
    box.call("ADD")
    assert [box.call("DEL").status for _ in "12"] == [0, 0]


def test_state_stays_until_the_delegate_succeeded(box: ShimBox) -> None:
    """Fault C1: a retried DEL must have something to do."""
    box.call("ADD")
    plugin = (box.bin / "bridge").read_text()
    box.delegate("bridge", FAILS)
    assert box.call("DEL").code == 123
    assert list(box.states()) == [CONTAINER]
    (box.bin / "bridge").unlink()
    assert box.call("DEL").code == 7
    assert list(box.states()) == [CONTAINER]
    (box.bin / "bridge").write_text(plugin)
    (box.bin / "bridge").chmod(0o755)
    assert box.call("DEL").status == 0
    assert box.states() == {}


@pytest.mark.parametrize("body", ["kill -9 $$", "exit 3", "echo nonsense; exit 1"])
def test_a_delegate_that_gives_no_reason(box: ShimBox, body: str) -> None:
    box.call("ADD")
    box.delegate("bridge", body)
    answer = box.call("DEL")
    assert answer.code == 999
    assert "bridge" in answer.msg
    assert list(box.states()) == [CONTAINER]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": "cbr0"}'])
def test_a_state_that_a_crash_cut_off(box: ShimBox, content: str) -> None:
    """Fault C3: such a file made flannel's plugin leak, silently."""
    box.data_dir.mkdir()
    (box.data_dir / CONTAINER).write_text(content)
    assert box.call("DEL").status == 0
    assert box.given("DEL")["ipam"]["ranges"] == [[{"subnet": "10.1.17.0/24"}]]
    assert box.states() == {}


def test_a_state_that_was_cut_off_waits_for_the_agent(box: ShimBox) -> None:
    box.data_dir.mkdir()
    (box.data_dir / CONTAINER).write_text("{")
    box.env_file.unlink()
    assert box.call("DEL").code == 11
    assert list(box.states()) == [CONTAINER]


def test_a_pod_of_direct_mode_is_deleted(box: ShimBox) -> None:
    assert box.call("DEL").status == 0
    assert box.given("DEL")["type"] == "bridge"


def test_a_pod_that_never_was_never_fails(box: ShimBox) -> None:
    box.delegate("bridge", FAILS)
    assert box.call("DEL").status == 0
    box.env_file.unlink()
    assert box.call("DEL").status == 0


def test_what_flannels_plugin_made_for_another_interface(box: ShimBox) -> None:
    """It keeps one file per container, whatever the interface is called."""
    box.call("ADD")
    box.env_file.unlink()
    assert box.call("DEL", CNI_IFNAME="net1").status == 0
    assert box.given("DEL", interface="net1")["mtu"] == 1472
    assert list(box.states()) == [CONTAINER], "it may be that of eth0"
    assert box.call("DEL", box.conf(name="other"), CNI_IFNAME="net2").status == 0
    assert not (box.folder / "DEL.ctr1.net2.json").exists(), "another network's"


def test_the_result_is_passed_on_to_del_and_check(box: ShimBox) -> None:
    result = {"cniVersion": "1.0.0", "ips": [{"address": "10.1.17.2/24"}]}
    box.call("ADD", box.conf(cniVersion="0.4.0"))
    for command in ("CHECK", "DEL"):
        assert box.call(command, box.conf(prevResult=result)).status == 0
        given = box.given(command)
        assert (given["prevResult"], given["cniVersion"]) == (result, "1.0.0")


# --- CHECK, STATUS, GC (fault C4) -------------------------------------------------------------


def test_check_asks_the_delegate(box: ShimBox) -> None:
    box.call("ADD")
    assert box.call("CHECK").status == 0
    box.delegate("bridge", FAILS)
    assert box.call("CHECK").code == 123


def test_check_names_the_gateway_of_each_route(box: ShimBox) -> None:
    box.call("ADD")
    ips = [{"address": "10.1.17.2/24", "gateway": "10.1.17.1"}]
    ips += [{"address": "fd00::2/64", "gateway": "fd00::1"}]
    routes = [{"dst": "10.1.0.0/16"}, {"dst": "fd00::/48"}, {"dst": "0.0.0.0/0", "gw": "10.1.17.9"}]
    result = {"cniVersion": "1.0.0", "ips": ips, "routes": routes}
    box.call("CHECK", box.conf(prevResult=result))
    given = [route["gw"] for route in box.given("CHECK")["prevResult"]["routes"]]
    assert given == ["10.1.17.1", "fd00::1", "10.1.17.9"]


@pytest.mark.parametrize(
    "more", [{}, {"ips": 1}, {"ips": [{}]}, {"ips": [], "routes": [1]}, {"ips": [], "routes": None}]
)
def test_check_passes_on_results_of_any_form(box: ShimBox, more: dict[str, Any]) -> None:
    result = {"cniVersion": "1.0.0", **more}
    box.call("CHECK", box.conf(prevResult=result))
    assert box.given("CHECK")["prevResult"] == result


def test_check_of_an_unknown_pod_before_the_agent(box: ShimBox) -> None:
    box.env_file.unlink()
    assert box.call("CHECK").code == 11


def status(box: ShimBox) -> Any:
    return box.call("STATUS", box.conf(cniVersion="1.1.0", waitSeconds=60), within=10)


def test_status_says_whether_add_would_work(box: ShimBox) -> None:
    assert (status(box).status, status(box).stdout) == (0, "")
    box.delegate("bridge", FAILS)
    assert status(box).code == 123
    (box.bin / "bridge").unlink()
    assert status(box).code == 50
    box.env_file.unlink()
    assert status(box).code == 50


def test_status_with_a_delegate_that_knows_none(box: ShimBox) -> None:
    box.delegate("bridge", 'echo \'{"code": 4, "msg": "unknown CNI_COMMAND"}\'; exit 1')
    assert status(box).status == 0


def collect(box: ShimBox, *valid: tuple[str, str], **more: Any) -> Any:
    ids = [{"containerID": container, "ifname": interface} for container, interface in valid]
    return box.call(
        "GC",
        box.conf(cniVersion="1.1.0", **{GARBAGE: ids}, **more),
        CNI_CONTAINERID=None,
        CNI_IFNAME=None,
        CNI_NETNS=None,
    )


def test_gc_releases_what_nobody_uses(box: ShimBox) -> None:
    for number in range(4):
        box.call("ADD", CNI_CONTAINERID=f"c{number}")
    box.call("ADD", CNI_CONTAINERID="c1", CNI_IFNAME="net1")
    box.call("ADD", box.conf(name="other"), CNI_CONTAINERID="x")
    assert collect(box, ("c1", "eth0"), ("c3", "eth0")).status == 0
    assert sorted(box.states()) == ["c1", "c3", "x"]
    assert {call for call in box.calls() if call.startswith("DEL")} == {
        "DEL c0 eth0",
        "DEL c2 eth0",
        "DEL c1 net1",
    }
    assert box.given("GC", "", "")[GARBAGE][0]["containerID"] == "c1"


def test_gc_knows_that_flannels_plugin_writes_no_interface(box: ShimBox) -> None:
    box.call("ADD", CNI_CONTAINERID="c1")
    assert collect(box, ("c1", "net1")).status == 0
    assert list(box.states()) == ["c1"]


def test_gc_releases_addresses_without_a_state(box: ShimBox) -> None:
    """Pods of direct mode, and those that flannel's plugin forgot (fault C1)."""
    book = box.folder / "networks/cbr0"
    book.mkdir(parents=True)
    (book / "10.1.17.2").write_text("c1\r\neth0")
    (book / "10.1.17.3").write_text("c2\r\neth0")
    (book / "fd00::3").write_text("c2\r\neth0")
    (book / "last_reserved_ip.0").write_text("10.1.17.3")
    (book / "lock").touch()
    assert collect(box, ("c1", "eth0"), ipam={"dataDir": str(book.parent)}).status == 0
    assert [call for call in box.calls() if call.startswith("DEL")] == ["DEL c2 eth0"]


def test_gc_goes_on_past_a_failure(box: ShimBox) -> None:
    for number in range(3):
        box.call("ADD", CNI_CONTAINERID=f"c{number}")
    box.delegate("bridge", f'[ "$CNI_CONTAINERID" != c1 ] || {{ {FAILS}; }}')
    answer = collect(box)
    assert answer.msg == "not all could be released (1 failures): eth0 of c1: bridge: no luck"
    assert list(box.states()) == ["c1"]


@pytest.mark.parametrize(
    "valid", [None, {}, "x", [1], [{}], [{"containerID": "c"}], [{"containerID": 1, "ifname": "e"}]]
)
def test_gc_without_a_list_disconnects_nobody(box: ShimBox, valid: object) -> None:
    box.call("ADD")
    conf = box.conf(cniVersion="1.1.0", **({} if valid is None else {GARBAGE: valid}))
    assert box.call("GC", conf).code == 7
    assert list(box.states()) == [CONTAINER]


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK", "STATUS", "GC"])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"name": "cbr0"} x',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"cniVersion": NaN}',
        b'{"waitSeconds": 1e999}',
        b"\xff\xfe",
        b'{"a": ' + b"9" * 100_000 + b", ",
    ],
)
def test_input_that_is_no_object(box: ShimBox, command: str, data: bytes) -> None:
    assert box.call(command, data).code == 6


@pytest.mark.parametrize(
    "more",
    [
        {"name": ""},
        {"name": "../x"},
        {"name": "a/b"},
        {"name": 7},
        {"delegate": []},
        {"delegate": {"type": ""}},
        {"delegate": {"type": "../bridge"}},
        {"delegate": {"type": None}},
        {"ipam": "host-local"},
        {"ipam": {"routes": {}}},
        {"ipam": {"routes": ["10.0.0.0/8"]}},
        {"ipam": {"routes": [{"dst": "10.0.0.0"}]}},
        {"runtimeConfig": 1},
        {"subnetFile": 1},
        {"dataDir": ["x"]},
        {"runDir": {}},
        {"waitSeconds": "10"},
        {"waitSeconds": -1},
        {"waitSeconds": 1e9},
        {"waitSeconds": True},
    ],
)
def test_a_wrong_key_is_named_and_nothing_done(box: ShimBox, more: dict[str, Any]) -> None:
    answer = box.call("ADD", box.conf(**more))
    assert answer.code == 7
    assert next(iter(more)) in answer.msg
    assert (box.states(), box.calls()) == ({}, [])


@pytest.mark.parametrize(
    "wrong",
    [
        {"CNI_CONTAINERID": None},
        {"CNI_CONTAINERID": ""},
        {"CNI_CONTAINERID": "../../etc/passwd"},
        {"CNI_CONTAINERID": ".new"},
        {"CNI_IFNAME": "a/b"},
        {"CNI_IFNAME": "a:b"},
        {"CNI_IFNAME": ".."},
        {"CNI_IFNAME": "0123456789abcdef"},
        {"CNI_IFNAME": None},
        {"CNI_NETNS": None},
        {"CNI_PATH": None},
        {"CNI_COMMAND": "EAT"},
    ],
)
def test_a_wrong_environment(box: ShimBox, wrong: dict[str, str | None]) -> None:
    command = wrong.pop("CNI_COMMAND", "ADD") or ""
    assert box.call(command, box.conf(), within=20, **wrong).code == 4
    assert (box.states(), box.calls()) == ({}, [])


@pytest.mark.parametrize(
    ("command", "version"), [("CHECK", "0.3.1"), ("STATUS", "1.0.0"), ("GC", "1.0.0")]
)
def test_commands_that_came_later(box: ShimBox, command: str, version: str) -> None:
    assert box.call(command, box.conf(cniVersion=version)).code == 1


def test_a_state_folder_that_cannot_be(box: ShimBox) -> None:
    box.data_dir.write_text("a file")
    answer = box.call("ADD")
    assert answer.code == 5
    assert str(box.data_dir) in answer.msg
    assert box.calls() == []


def test_a_pipe_in_place_of_subnet_env_hangs_nobody(box: ShimBox) -> None:
    box.env_file.unlink()
    os.mkfifo(box.env_file)
    assert box.call("ADD", within=10).code == 6


def test_a_huge_subnet_env(box: ShimBox) -> None:
    box.env_file.write_text("#" * 70_000)
    assert box.call("ADD").code == 5


def test_without_a_command_it_introduces_itself(box: ShimBox) -> None:
    answer = box.call("", CNI_COMMAND=None)
    assert (answer.status, answer.stdout) == (0, "")
    assert answer.stderr.startswith(f"CNI Plugin flannel version {__version__} (linux/")
