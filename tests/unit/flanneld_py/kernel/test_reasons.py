"""Refusals are said with their meaning and remedy."""

from __future__ import annotations

import errno

import pytest

from backends.elements import Kind
from flanneld_py.kernel.reasons import reason


@pytest.mark.parametrize(
    ("kind", "number", "words"),
    [
        (Kind.LINK, errno.EPERM, "CAP_NET_ADMIN"),
        (Kind.LINK, errno.EOPNOTSUPP, "modprobe vxlan"),
        (Kind.NEXTHOP, errno.EOPNOTSUPP, "--nexthops=off"),
        (Kind.NEIGHBOUR, errno.ENOBUFS, "gc_thresh3"),
        (Kind.ROUTE, errno.ENETDOWN, "down"),
    ],
)
def test_known_refusals_name_the_remedy(kind: Kind, number: int, words: str) -> None:
    assert words in reason(kind, number)


def test_the_kernels_own_words_come_first() -> None:
    assert reason(Kind.ROUTE, errno.EINVAL, "Invalid prefix") == "Invalid prefix"
    assert reason(Kind.ROUTE, errno.EPERM, "No").startswith("No: not permitted")
    assert reason(Kind.ROUTE, errno.EINVAL) == "Invalid argument"
