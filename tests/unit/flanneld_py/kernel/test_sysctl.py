"""Names of settings stay below /proc/sys; reading what is absent is no error."""

from __future__ import annotations

import errno

import pytest

from backends.elements import Sysctl
from flanneld_py.kernel import KernelError
from flanneld_py.kernel.sysctl import read_sysctl, read_sysctls, write_sysctl


@pytest.mark.parametrize("name", ["/etc/passwd", "net/../../etc/passwd", ""])
def test_names_that_leave_the_tree_are_refused(name: str) -> None:
    with pytest.raises(KernelError) as caught:
        write_sysctl(Sysctl(name=name, value="1"))
    assert caught.value.errno == errno.EINVAL


def test_absent_settings_are_left_out() -> None:
    assert read_sysctl("net/ipv4/conf/no.such.device/rp_filter") is None
    [found] = read_sysctls(["net/no/such", "kernel/ostype"])
    assert found == Sysctl(name="kernel/ostype", value="Linux")


def test_an_absent_setting_names_itself_and_why() -> None:
    with pytest.raises(KernelError, match="rp_filter = 1: there is no such"):
        write_sysctl(Sysctl(name="net/ipv4/conf/no.such.device/rp_filter", value="1"))


def test_a_setting_that_is_right_is_not_written() -> None:
    write_sysctl(Sysctl(name="kernel/ostype", value="Linux"))  # it is read-only even for root
