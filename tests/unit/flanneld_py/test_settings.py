from __future__ import annotations

import pickle
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from flanneld_py.flags import UsageError
from flanneld_py.secret import Secret
from flanneld_py.settings import (
    CniMode,
    FirewallSettings,
    HealthSettings,
    NexthopMode,
    Settings,
    from_argv,
)


def problems_of(*argv: str, environ: dict[str, str] | None = None) -> tuple[str, ...]:
    with pytest.raises(UsageError) as caught:
        from_argv(argv, environ or {})
    return caught.value.problems


def test_no_flags_are_the_defaults_of_the_value() -> None:
    assert from_argv([], {}) == Settings()


def test_everything_given(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("ca", "cert", "key")}
    for file in files.values():
        file.write_text("x")
    settings = from_argv(
        [
            "--etcd-endpoints=https://a:2379/, https://[2001:db8::1]:2379,",
            "--etcd-prefix=/p",
            f"--etcd-cafile={files['ca']}",
            f"--etcd-certfile={files['cert']}",
            f"--etcd-keyfile={files['key']}",
            "--etcd-username=u",
            "--iface=eth1",
            "--iface=",
            "--iface=10.0.0.1",
            "--iface-regex=^eth[0-9]+$",
            "--iface-can-reach=2001:db8::2",
            "--public-ip=192.0.2.1",
            "--public-ipv6=2001:db8::1",
            f"--subnet-file={tmp_path}/x/../subnet.env",
            "--subnet-lease-ttl=90s",
            "--subnet-lease-renew-margin=0x10",
            f"--state-dir={tmp_path}/state",
            f"--run-dir={tmp_path}/run",
            "--cni-mode=direct",
            f"--cni-conf-dir={tmp_path}/net.d",
            "--nexthops=off",
            "--log-level=debug",
            "--ip-masq",
            "--ip-masq-fully-random-disable",
            "--iptables-forward-rules=false",
            "--ip-blackhole-route",
            "--healthz-ip=::1",
            "--healthz-port=10256",
            f"--cni-conf={files['ca']}",
            "--log-format=json",
            "--config-check",
        ],
        {"FLANNELD_ETCD_PASSWORD": "hunter2"},
    )
    assert settings.etcd.endpoints == ("https://a:2379/", "https://[2001:db8::1]:2379")
    assert settings.etcd.prefix == "/p"
    assert (settings.etcd.cafile, settings.etcd.certfile) == (str(files["ca"]), str(files["cert"]))
    assert settings.etcd.keyfile == str(files["key"])
    assert settings.etcd.username == "u"
    assert settings.etcd.password.reveal() == "hunter2"
    assert settings.iface.ifaces == ("eth1", "10.0.0.1")
    assert [pattern.pattern for pattern in settings.iface.regexes] == ["^eth[0-9]+$"]
    assert settings.iface.can_reach == IPv6Address("2001:db8::2")
    assert settings.iface.public_ip == IPv4Address("192.0.2.1")
    assert settings.iface.public_ipv6 == IPv6Address("2001:db8::1")
    assert settings.paths.subnet_file == tmp_path / "subnet.env"
    assert settings.paths.state_dir == tmp_path / "state"
    assert settings.paths.run_dir == tmp_path / "run"
    assert (settings.lease.ttl, settings.lease.renew_margin) == (90.0, 960.0)
    assert (settings.cni.mode, settings.cni.conf_dir) == (CniMode.DIRECT, tmp_path / "net.d")
    assert settings.nexthops is NexthopMode.OFF
    assert settings.log_level == "debug"
    assert settings.firewall == FirewallSettings(
        ip_masq=True, random_fully=False, forward_rules=False
    )
    assert settings.health == HealthSettings(ip="::1", port=10256)
    assert settings.cni.conf == files["ca"]
    assert settings.blackhole_route
    assert settings.log_format == "json"
    assert settings.config_check
    assert settings.notes == ()


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--etcd-endpoints=,", "no endpoint is given"),
        ("--etcd-endpoints=http://a:0", "'http://a:0': port 0"),
        ("--etcd-endpoints=http://a:2379,ftp://b:1", "'ftp://b:1': scheme 'ftp'"),
        ("--etcd-endpoints=http://a:1/path", "only scheme, host and port"),
        ("--etcd-endpoints=http://a:1,https://b:1", "mix http and https"),
        ("--etcd-prefix=/", "'/' is no key prefix"),
        ("--etcd-cafile=/nowhere/ca", "'/nowhere/ca' cannot be read (No such file"),
        ("--etcd-username=u", "give --etcd-password, too"),
        ("--etcd-password=hunter2", "give --etcd-username, too"),
        ("--iface=eth0,eth1 eth2", "no interface name"),
        ("--iface=10.0.0.1/24", "without a prefix length"),
        ("--iface=a-name-that-is-too-long", "at most 15 bytes"),
        ("--iface-regex=[", "regular expression"),
        ("--iface-regex=[[:alpha:]]", "POSIX"),
        ("--iface-can-reach=example.org", "'example.org' is no IP address"),
        ("--public-ip=2001:db8::1", "give it as --public-ipv6"),
        ("--public-ip=0.0.0.0", "'0.0.0.0' is no address of a node"),
        ("--public-ipv6=192.0.2.1", "give it as --public-ip"),
        ("--public-ipv6=ff02::1", "'ff02::1' is no address of a node"),
        ("--public-ipv6=fe80::1%eth0", "a zone means nothing"),
        ("--subnet-file=", "is no path"),
        ("--run-dir=/" + "x" * 100, "too long for a unix socket"),
        ("--subnet-lease-ttl=1s", "1s is out of range"),
        ("--subnet-lease-ttl=-5m", "out of range"),
        ("--subnet-lease-renew-margin=0", "0 is out of range: give 1 to 1439"),
        ("--subnet-lease-renew-margin=1440", "1440 is out of range"),
        ("--healthz-port=65536", "65536 is no port: give 1 to 65535, or 0 for none"),
        ("--healthz-ip=health.example", "'health.example' is no IP address"),
        ("--cni-conf=/nowhere/conf", "'/nowhere/conf' cannot be read (No such file"),
        ("--set-node-network-unavailable=false", "the Kubernetes store does not exist yet"),
        ("--kube-subnet-mgr=true", "the Kubernetes store does not exist yet"),
        ("--kube-api-url=http://x", "the Kubernetes store does not exist yet"),
        ("--kubeconfig-file=/x", "the Kubernetes store does not exist yet"),
    ],
)
def test_each_problem_names_the_flag_the_value_and_the_remedy(argument: str, words: str) -> None:
    (problem,) = problems_of(argument)
    assert problem.startswith(argument.partition("=")[0] + ": ")
    assert words in problem
    assert "hunter2" not in problem
    assert "\n" not in problem


def test_a_certificate_without_its_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "cert"
    file.write_text("x")
    (problem,) = problems_of(f"--etcd-certfile={file}")
    assert problem == (
        "--etcd-certfile: a certificate and its key go together: give --etcd-keyfile, too"
    )


def test_all_problems_are_told_at_once() -> None:
    problems = problems_of("--public-ip=x", "--subnet-lease-renew-margin=0", "--kube-subnet-mgr")
    assert [problem.partition(":")[0] for problem in problems] == [
        "--public-ip",
        "--subnet-lease-renew-margin",
        "--kube-subnet-mgr",
    ]


def test_a_value_from_the_environment_is_called_by_its_variable() -> None:
    (problem,) = problems_of(environ={"FLANNELD_PUBLIC_IP": "x"})
    assert problem.startswith("FLANNELD_PUBLIC_IP: 'x' is no IP address")


def test_a_password_in_an_endpoint_is_not_repeated() -> None:
    (problem,) = problems_of("--etcd-endpoints=http://u:hunter2@a:2379")
    assert problem.startswith("--etcd-endpoints: no user or password belongs into an endpoint")
    assert "hunter2" not in problem


def test_a_command_behind_flags_does_not_start_an_agent() -> None:
    (problem,) = problems_of("--run-dir=/x", "status")
    assert "write flanneld-py status" in problem


def test_the_version_is_asked_for_before_anything_is_judged() -> None:
    assert from_argv(["--version", "--public-ip=x"], {}) == Settings(version=True)
    assert not from_argv([], {"FLANNELD_VERSION": "true"}).version


def test_notes_name_what_is_ignored_or_idle() -> None:
    argv = ["--vmodule=kube=2", "--etcd-username=u", "--etcd-password=hunter2"]
    argv += ["--ip-masq", "true", "--iface=eth9"]
    settings = from_argv(
        argv, {"FLANNELD_IPTABLES_RESYNC": "7", "FLANNELD_SUBNET_LEASE_TTL": "soon"}
    )
    ttl, resync, vmodule, password, leftover = settings.notes
    assert ttl.startswith("FLANNELD_SUBNET_LEASE_TTL: 'soon'")
    assert resync.startswith("FLANNELD_IPTABLES_RESYNC: without effect: ")
    assert vmodule.startswith("--vmodule: without effect: it names source files of flannel")
    assert "FLANNELD_ETCD_PASSWORD" in password
    assert "from 'true' on are ignored (2)" in leftover
    assert settings.iface.ifaces == ()
    assert not any("hunter2" in note for note in settings.notes)


def test_no_secret_shows_in_the_settings() -> None:
    settings = from_argv(["--etcd-username=u"], {"FLANNELD_ETCD_PASSWORD": "hunter2"})
    assert settings.etcd.password.reveal() == "hunter2"
    assert "hunter2" not in repr(settings)


def test_a_secret_shows_itself_only_when_asked_by_name() -> None:
    secret = Secret("hunter2")
    assert secret.reveal() == "hunter2"
    assert f"{secret} {secret!r}" == "*** ***"
    assert secret == Secret("hunter2")
    assert secret != Secret("hunter3")
    with pytest.raises(TypeError):
        pickle.dumps(secret)


@pytest.mark.parametrize(
    ("argv", "level"),
    [
        ([], "info"),
        (["-v=0"], "info"),
        (["-v", "1"], "debug"),
        (["-v=10"], "debug"),
        (["-v=4", "--log-level=error"], "error"),
    ],
)
def test_flannels_verbosity_is_a_level(argv: list[str], level: str) -> None:
    assert from_argv(argv, {}).log_level == level
    assert from_argv([], {"FLANNELD_V": "3"}).log_level == "debug"


def test_a_health_port_below_one_is_none() -> None:
    assert from_argv(["--healthz-port=-1", "--healthz-ip="], {}).health == HealthSettings(ip="")
    assert from_argv(["--healthz-ip=[::]"], {}).health.ip == "::"


def test_defaults_of_the_kubernetes_store_ask_for_nothing() -> None:
    argv = ["--kube-subnet-mgr=false", "--set-node-network-unavailable=true", "--kube-api-url="]
    assert from_argv(argv, {}) == Settings()
