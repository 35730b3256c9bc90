from __future__ import annotations

import pytest

from bench.figures import Figure, Yardstick, percentile


def figure(
    *values: float,
    target: float | None = None,
    beside: tuple[float, ...] = (),
    is_limit: bool = False,
) -> Figure:
    yardstick = Yardstick(name="other", values=beside, is_limit=is_limit) if beside else None
    return Figure(bench="b", name="n", unit="ms", values=values, target=target, yardstick=yardstick)


def test_the_median_is_the_middle_one_and_not_the_mean() -> None:
    assert figure(1, 100, 2).median == 2


def test_a_figure_without_values_is_refused() -> None:
    with pytest.raises(ValueError, match="b: n: no values"):
        figure()


@pytest.mark.parametrize(
    ("target", "beside", "is_limit", "reached"),
    [
        (None, (), False, None),
        (None, (1.0,), False, None),
        (5.0, (), False, True),
        (4.9, (), False, False),
        (5.0, (4.0,), False, True),
        (5.0, (4.0,), True, False),
        (None, (5.0,), True, True),
        (4.0, (6.0,), True, False),
    ],
)
def test_every_demand_has_to_be_met_and_a_yardstick_is_one_only_if_it_limits(
    target: float | None, beside: tuple[float, ...], is_limit: bool, reached: bool | None
) -> None:
    assert figure(5, target=target, beside=beside, is_limit=is_limit).reached is reached


def test_the_ratio_is_that_of_the_medians() -> None:
    assert figure(3, 90, 1, beside=(6, 5, 700)).ratio == 0.5
    assert figure(3).ratio is None
    assert figure(3, beside=(0,)).ratio is None


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 100), (0.99, 198), (1.0, 200), (0.001, 1), (0.9901, 199)]
)
def test_a_percentile_is_the_nearest_rank(share: float, expected: int) -> None:
    assert percentile(list(range(200, 0, -1)), share) == expected


@pytest.mark.parametrize("share", [0, -0.1, 1.1])
def test_a_percentile_outside_of_its_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        percentile([1], share)


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)
