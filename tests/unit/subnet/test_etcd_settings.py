from __future__ import annotations

import pytest

from subnet.errors import StoreSettingsError
from subnet.etcd.settings import EtcdSettings, parse_endpoints, read_tls
from subnet.etcd.store import EtcdStore


def endpoints(*texts: str, tls_files: bool = False) -> list[str]:
    return [str(endpoint) for endpoint in parse_endpoints(texts, tls_files=tls_files)]


@pytest.mark.parametrize(
    ("text", "expected", "target"),
    [
        ("http://10.0.0.1:2379", "http://10.0.0.1:2379", "ipv4:10.0.0.1:2379"),
        (" https://etcd.example:4001/ ", "https://etcd.example:4001", "dns:///etcd.example:4001"),
        ("10.0.0.1:4001", "http://10.0.0.1:4001", "ipv4:10.0.0.1:4001"),
        ("etcd", "http://etcd:2379", "dns:///etcd:2379"),
        ("HTTP://[FD00::1]:2379", "http://[fd00::1]:2379", "ipv6:[fd00::1]:2379"),
    ],
)
def test_an_endpoint_is_read(text: str, expected: str, target: str) -> None:
    (endpoint,) = parse_endpoints([text], tls_files=False)
    assert str(endpoint) == expected
    assert endpoint.target == target
    assert endpoint.secure is expected.startswith("https")


def test_an_endpoint_without_a_scheme_speaks_tls_if_there_are_files_for_it() -> None:
    assert endpoints("a:1", "http://b:2") == ["http://a:1", "http://b:2"]
    assert endpoints("a:1", tls_files=True) == ["https://a:1"]


def test_blanks_empty_and_repeated_endpoints_do_not_matter() -> None:
    assert endpoints("http://a:1", "", " http://b:2", "http://a:1 ") == ["http://a:1", "http://b:2"]


@pytest.mark.parametrize(
    "text",
    [
        "ftp://a:1",
        "unix:///run/etcd.sock",
        "http://",
        "http://a:port",
        "http://a:70000",
        "http://a:0",
        "http://a:1/path",
        "http://a:1?x=y",
        "http://user:secret@a:1",
        "http://a b:1",
        "http://[fd00::1:2379",
    ],
)
def test_an_unusable_endpoint_is_named(text: str) -> None:
    with pytest.raises(StoreSettingsError) as refused:
        endpoints(text)
    assert repr(text) in str(refused.value)
    assert "http://host:2379" in str(refused.value)


def test_mixed_schemes_are_refused_by_name() -> None:
    with pytest.raises(StoreSettingsError, match=r"http://a:1, https://b:2"):
        endpoints("http://a:1", "https://b:2")


def test_no_endpoint_at_all_is_refused() -> None:
    with pytest.raises(StoreSettingsError, match="--etcd-endpoints"):
        endpoints(" ", "")


@pytest.mark.parametrize("given", ["keyfile", "certfile"])
def test_half_of_a_client_certificate_is_refused(given: str) -> None:
    settings = EtcdSettings(**{given: "/some/file"})  # type: ignore[arg-type]
    with pytest.raises(StoreSettingsError, match=f"--etcd-{given} is given without"):
        read_tls(settings)


def test_the_password_is_in_no_representation() -> None:
    settings = EtcdSettings(username="agent", password="s3cret")
    assert "s3cret" not in repr(settings)
    assert "agent" in repr(settings)


@pytest.mark.parametrize(
    ("prefix", "key"),
    [
        ("/coreos.com/network", "/coreos.com/network/subnets/10.5.52.0-24"),
        ("//coreos.com///network/", "/coreos.com/network/subnets/10.5.52.0-24"),
        ("no/slash", "no/slash/subnets/10.5.52.0-24"),
        ("/", "/subnets/10.5.52.0-24"),
    ],
)
def test_a_prefix_is_cleaned_as_flannel_does(prefix: str, key: str) -> None:
    from ipaddress import IPv4Network

    store = EtcdStore(EtcdSettings(prefix=prefix))
    assert store.key_of(IPv4Network("10.5.52.0/24"), None) == key


def test_an_empty_prefix_is_refused() -> None:
    with pytest.raises(StoreSettingsError, match="--etcd-prefix"):
        EtcdStore(EtcdSettings(prefix="  "))


def test_messages_call_the_store_by_its_endpoints_and_prefix() -> None:
    store = EtcdStore(EtcdSettings(endpoints=("http://a:1", "http://b:2"), prefix="/p"))
    assert store.source == "etcd http://a:1,http://b:2 /p"


def test_tls_files_beside_plain_endpoints_are_pointed_out(caplog: pytest.LogCaptureFixture) -> None:
    EtcdStore(EtcdSettings(endpoints=("http://a:1",), cafile="/some/ca.pem"))
    assert "https://" in caplog.text


def test_a_user_without_a_password_is_pointed_out(caplog: pytest.LogCaptureFixture) -> None:
    EtcdStore(EtcdSettings(username="agent"))
    assert "--etcd-password" in caplog.text
