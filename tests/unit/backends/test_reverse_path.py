from __future__ import annotations

import pytest

from backends.reverse_path import judge_rp_filter, rp_filter_setting


@pytest.mark.parametrize(
    ("everywhere", "device", "breaks"),
    [
        ("0", "0", False),
        ("0", "1", True),
        ("1", "0", True),
        ("1", "1\n", True),
        ("2", "1", False),
        ("1", "2", False),
        ("2", "0", False),
    ],
)
def test_the_larger_setting_counts(everywhere: str, device: str, breaks: bool) -> None:
    warning = judge_rp_filter(
        {rp_filter_setting("all"): everywhere, rp_filter_setting("flannel.1"): device}
    )
    assert bool(warning) == breaks
    if breaks:
        assert "rp_filter is 1 (strict) on flannel.1" in warning
        assert "set net.ipv4.conf.all.rp_filter to 2" in warning


def test_what_could_not_be_read_is_not_judged() -> None:
    assert judge_rp_filter({}) == ""
    assert judge_rp_filter({rp_filter_setting("all"): "1"}) == ""
