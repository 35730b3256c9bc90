"""subnet.env: text to the byte, dotenv liberties, and writes that nobody sees half done."""

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest

from flanneld_py.subnetfile import (
    MAX_BYTES,
    SubnetEnv,
    SubnetFile,
    SubnetFileError,
    parse,
    read,
    render,
    write,
)

CHECKOUT = Path(__file__).parents[3]
GOLDEN = CHECKOUT / "tests" / "golden"
FOLDERS = sorted(folder.name for folder in GOLDEN.glob("etcd-*"))
TEXT = "FLANNEL_NETWORK=10.42.0.0/16\nFLANNEL_SUBNET=10.42.0.1/24\nFLANNEL_MTU=1450\n"


@pytest.fixture
def umask_077() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- text ------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_flannel_wrote_round_trips_to_the_byte(folder: str) -> None:
    text = (GOLDEN / folder / "subnet.env").read_text()
    env = parse(text)
    assert render(env) == text
    assert env.subnet is not None
    assert env.network is not None
    assert env.subnet.subnet_of(env.network)
    assert (env.subnet6 is not None) == ("dual" in folder)
    assert env.ip_masq


@pytest.mark.parametrize("folder", ["etcd-vxlan-dual", "etcd-vxlan-dual-nft"])
def test_the_mtu_is_the_only_line_that_differs_on_purpose(folder: str) -> None:
    flannels = (GOLDEN / folder / "subnet.env").read_text()
    ours = render(replace(parse(flannels), mtu=1430))
    differing = set(flannels.splitlines()) ^ set(ours.splitlines())
    assert differing == {"FLANNEL_MTU=1450", "FLANNEL_MTU=1430"}
    table = (CHECKOUT / "docs" / "compatibility.md").read_text()
    row = next(line for line in table.splitlines() if line.startswith("| FLANNEL_MTU"))
    assert "1450" in row
    assert "1430" in row


def test_all_lines_in_order() -> None:
    env = SubnetEnv(
        network=IPv4Network("10.42.0.0/16"),
        subnet=IPv4Network("10.42.0.0/24"),
        network6=IPv6Network("2001:cafe:42::/56"),
        subnet6=IPv6Network("2001:cafe:42::/64"),
        mtu=1450,
        ip_masq=True,
    )
    assert render(env) == (
        "FLANNEL_NETWORK=10.42.0.0/16\n"
        "FLANNEL_SUBNET=10.42.0.1/24\n"
        "FLANNEL_IPV6_NETWORK=2001:cafe:42::/56\n"
        "FLANNEL_IPV6_SUBNET=2001:cafe:42::1/64\n"
        "FLANNEL_MTU=1450\n"
        "FLANNEL_IPMASQ=true\n"
    )
    assert parse(render(env)) == env


def test_an_absent_family_has_no_lines() -> None:
    env = SubnetEnv(network6=IPv6Network("fd00::/56"), subnet6=IPv6Network("fd00::/64"), mtu=1)
    assert render(env) == (
        "FLANNEL_IPV6_NETWORK=fd00::/56\nFLANNEL_IPV6_SUBNET=fd00::1/64\n"
        "FLANNEL_MTU=1\nFLANNEL_IPMASQ=false\n"
    )


@pytest.mark.parametrize(
    ("line", "subnet"),
    [
        ("FLANNEL_SUBNET=10.5.72.1/24", "10.5.72.0/24"),
        ("  export FLANNEL_SUBNET = 10.5.72.1/24  # ours", "10.5.72.0/24"),
        ("FLANNEL_SUBNET: 10.5.72.1/24", "10.5.72.0/24"),
        ('FLANNEL_SUBNET="10.5.72.1/24" # ours', "10.5.72.0/24"),
        ("FLANNEL_SUBNET='10.5.72.1/24'", "10.5.72.0/24"),
        ("NET=10.5.72\nFLANNEL_SUBNET=${NET}.1/24", "10.5.72.0/24"),
        ('LEN=24\nFLANNEL_SUBNET="10.5.72.1/$LEN"', "10.5.72.0/24"),
        ("FLANNEL_SUBNET=10.5.1.1/24\r\nFLANNEL_SUBNET=10.5.72.1/24\r\n", "10.5.72.0/24"),
        ("FLANNEL_SUBNET=junk,10.5.72.1/24,fd00::1/64,", "10.5.72.0/24"),
        ("FLANNEL_SUBNET=10.5.72.1/24,10.5.73.1/24", None),
        ("#FLANNEL_SUBNET=10.5.72.1/24", None),
        ("FLANNEL_SUBNET=#10.5.72.1/24", None),
        ("FLANNEL_SUBNET=", None),
        ("FLANNEL_SUBNET", None),
        ("FLANNEL_SUBNET=10.5.72.1", None),
        ("FLANNEL_SUBNET=10.5.72.1/33", None),
        # Crashes flanneld.
        ("FLANNEL_SUBNET=fd00::1/64", None),
        ('FLANNEL_SUBNET="10.5.72.1/24', None),
        ("FLANNEL_SUBNET='$NET'", None),
        ("flannel_subnet=10.5.72.1/24", None),
        ("=10.5.72.1/24", None),
        ("", None),
        ("\x00\ufffd\ud800", None),
    ],
)
def test_dotenv_liberties(line: str, subnet: str | None) -> None:
    assert parse(line).subnet == (subnet and IPv4Network(subnet))
    assert parse(line).subnet6 is None


def test_ipv6_lines_are_read_alike() -> None:
    env = parse("FLANNEL_IPV6_SUBNET=10.5.72.1/24,fd00::1/64\nFLANNEL_IPV6_NETWORK=fd00::7/56")
    assert env.subnet6 == IPv6Network("fd00::/64")
    assert env.network6 == IPv6Network("fd00::/56")


@pytest.mark.parametrize(
    ("text", "mtu"), [("1450", 1450), ("4294967295", 2**32 - 1), ("4294967296", 0), ("-1", 0)]
)
def test_mtu(text: str, mtu: int) -> None:
    assert parse(f"FLANNEL_MTU={text}").mtu == mtu


@pytest.mark.parametrize(("text", "expected"), [("true", True), ("True", False), ("1", False)])
def test_ip_masq(text: str, expected: bool) -> None:
    assert parse(f"FLANNEL_IPMASQ={text}").ip_masq is expected


def test_variables_that_double_cannot_exhaust_memory() -> None:
    lines = ["A0=" + "x" * 100] + [f"A{i}=$A{i - 1}$A{i - 1}" for i in range(1, 60)]
    assert parse("\n".join([*lines, TEXT])) == parse(TEXT)


# --- files -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("umask_077")
def test_write_makes_folder_and_file_with_fixed_modes(tmp_path: Path) -> None:
    path = tmp_path / "run" / "flannel" / "subnet.env"
    assert write(path, TEXT)
    assert path.read_text() == TEXT
    assert mode(path) == 0o644
    assert mode(path.parent) == 0o755
    assert mode(path.parent.parent) == 0o755
    assert names(path.parent) == ["subnet.env"]


def test_an_existing_folder_keeps_its_mode(tmp_path: Path) -> None:
    folder = tmp_path / "flannel"
    folder.mkdir(mode=0o700)
    write(folder / "subnet.env", TEXT)
    assert mode(folder) == 0o700


def test_equal_content_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "subnet.env"
    write(path, TEXT)
    before = path.stat()
    assert not write(path, TEXT)
    assert path.stat() == before
    assert write(path, TEXT + "FLANNEL_IPMASQ=true\n")
    assert path.read_text() == TEXT + "FLANNEL_IPMASQ=true\n"


def test_one_object_writes_new_content(tmp_path: Path) -> None:
    file = SubnetFile(tmp_path / "subnet.env")
    assert file.write(TEXT)
    assert not file.write(TEXT)
    other = TEXT.replace("1450", "1430")
    assert file.write(other)
    assert file.path.read_text() == other


def test_what_a_killed_writer_left_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / ".subnet.env.flanneld-py").write_text("half")
    write(tmp_path / "subnet.env", TEXT)
    assert names(tmp_path) == ["subnet.env"]


def test_a_link_is_replaced_and_its_target_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("not ours")
    path = tmp_path / "subnet.env"
    path.symlink_to(target)
    assert write(path, TEXT)
    assert not path.is_symlink()
    assert target.read_text() == "not ours"


def test_read(tmp_path: Path) -> None:
    path = tmp_path / "subnet.env"
    assert read(path) is None
    assert read(path / "deeper") is None
    path.write_bytes(b"\xff\xfe\n" + TEXT.encode())
    assert read(path) == parse(TEXT)
    assert read(path / "deeper") is None


def test_read_refuses_what_is_no_file_of_that_kind(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "big").write_bytes(b"#" * (MAX_BYTES + 1))
    for path, number in (
        (tmp_path, errno.EISDIR),
        (tmp_path / "fifo", errno.EISDIR),
        (tmp_path / "big", errno.EFBIG),
    ):
        with pytest.raises(SubnetFileError) as caught:
            read(path)
        assert caught.value.errno == number
        assert str(path) in str(caught.value)
        assert "remove" in caught.value.remedy


def test_damage_is_seen_and_repaired(tmp_path: Path) -> None:
    path = tmp_path / "subnet.env"
    file = SubnetFile(path)
    assert file.damage() == ""
    assert file.repair() == ""
    file.write(TEXT)

    def altered() -> None:
        path.write_text(TEXT.replace("1450", "9000"))

    def same_size_and_time() -> None:
        found = path.stat()
        altered()
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))

    def truncated() -> None:
        path.write_text("")

    def replaced() -> None:
        path.unlink()
        os.mkfifo(path)

    for change, reason in (
        (path.unlink, "it was removed"),
        (altered, "its content was altered"),
        (same_size_and_time, "its content was altered"),
        (truncated, "its content was altered"),
        (lambda: path.chmod(0o600), "its mode is 0600"),
        (replaced, "it is not a regular file"),
    ):
        change()
        assert file.damage() == reason
        assert file.repair() == reason
        assert file.damage() == ""
        assert path.read_text() == TEXT
        assert mode(path) == 0o644


def test_a_removed_folder_is_made_again(tmp_path: Path) -> None:
    file = SubnetFile(tmp_path / "flannel" / "subnet.env")
    file.write(TEXT)
    file.path.unlink()
    file.path.parent.rmdir()
    assert file.repair() == "it was removed"
    assert file.path.read_text() == TEXT


def test_the_same_content_written_by_another_is_no_damage(tmp_path: Path) -> None:
    file = SubnetFile(tmp_path / "subnet.env")
    file.write(TEXT)
    other = tmp_path / "other"
    other.write_text(TEXT)
    other.chmod(0o644)
    other.replace(file.path)
    assert file.damage() == ""


def test_an_error_names_path_errno_and_remedy(tmp_path: Path) -> None:
    folder = tmp_path / "subnet.env"
    folder.mkdir()
    plain = tmp_path / "plain"
    plain.write_text("")
    for path, number, remedy in (
        (folder, errno.EISDIR, "remove what stands there"),
        (plain / "run" / "subnet.env", errno.ENOTDIR, "a part of the path is no folder"),
        (tmp_path / ("x" * 250), errno.ENAMETOOLONG, "--subnet-file"),
    ):
        with pytest.raises(SubnetFileError) as caught:
            write(path, TEXT)
        assert caught.value.errno == number
        assert caught.value.path == str(path)
        assert os.strerror(number) in str(caught.value)
        assert remedy in caught.value.remedy
    assert names(tmp_path) == ["plain", "subnet.env"]


def test_a_failed_write_is_made_up_for_later(tmp_path: Path) -> None:
    path = tmp_path / "subnet.env"
    path.mkdir()
    file = SubnetFile(path)
    with pytest.raises(SubnetFileError):
        file.write(TEXT)
    assert file.damage() == "it is not a regular file"
    path.rmdir()
    assert file.repair() == "it was removed"
    assert path.read_text() == TEXT


def test_a_killed_writer_never_leaves_a_part(tmp_path: Path) -> None:
    path = tmp_path / "subnet.env"
    texts = [f"# {letter * 20000}\n" for letter in "ab"]
    program = (
        "import sys; from pathlib import Path; from flanneld_py.subnetfile import write\n"
        "while True:\n"
        "    for letter in 'ab': write(Path(sys.argv[1]), f'# {letter * 20000}\\n')\n"
    )
    for _ in range(5):
        path.unlink(missing_ok=True)
        writer = subprocess.Popen([sys.executable, "-c", program, str(path)], cwd=CHECKOUT)
        try:
            deadline = time.monotonic() + 20
            seen: set[str] = set()
            while len(seen) < 2:
                assert time.monotonic() < deadline, "the writer does not write"
                if path.exists():
                    seen.add(path.read_text())
        finally:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        assert seen == set(texts)
        assert path.read_text() in texts
    assert write(path, TEXT)
    assert names(tmp_path) == ["subnet.env"]


def test_an_alteration_in_the_tick_of_our_own_write_is_noticed(tmp_path: Path) -> None:
    file = SubnetFile(tmp_path / "subnet.env")
    for round_ in range(50):
        file.write(f"FLANNEL_MTU={1000 + round_}\n")
        file.damage()
        file.path.write_text(f"FLANNEL_MTU={2000 + round_}\n")
        assert file.damage() == "its content was altered"
