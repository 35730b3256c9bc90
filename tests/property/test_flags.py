from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flanneld_py.flags import HelpRequested, UsageError, parse
from flanneld_py.flagtable import AGENT_FLAGS
from flanneld_py.flagvalues import duration_text, read_duration, read_integer
from flanneld_py.log import escape

NAMES = [flag.name for flag in AGENT_FLAGS]
SECRET = "hunter2-hunter2"

WORDS = st.one_of(
    st.text(max_size=8),
    st.sampled_from([f"--{name}" for name in NAMES]),
    st.builds(
        "{}{}={}".format,
        st.sampled_from(["-", "--", "---"]),
        st.sampled_from(NAMES),
        st.text(max_size=8),
    ),
)


def refusal(argv: list[str]) -> tuple[str, ...]:
    """The problems with `argv`; none when it is read, or asks for help."""
    try:
        parsed = parse(AGENT_FLAGS, argv)
    except UsageError as error:
        return error.problems
    except HelpRequested:
        return ()
    assert set(parsed.values) == set(NAMES)
    assert tuple(argv[len(argv) - len(parsed.leftover) :]) == parsed.leftover
    return ()


@given(st.lists(WORDS, max_size=6))
def test_any_command_line_is_read_or_refused_with_one_problem(argv: list[str]) -> None:
    assert len(refusal(argv)) <= 1


@given(st.text(alphabet=st.characters(exclude_characters="="), min_size=1, max_size=12))
def test_the_value_of_a_mistyped_flag_is_never_repeated(name: str) -> None:
    assert not any(SECRET in line for line in refusal([f"--etcd-password{name}={SECRET}"]))
    assert refusal([f"--etcd-password{name}={SECRET}"])


@given(st.integers(min_value=-(2**63), max_value=2**63 - 1))
def test_integers_come_back_in_every_base(number: int) -> None:
    for form in ("d", "#x", "#o", "#b", "_d", "#_x"):
        assert read_integer(format(number, form)) == number


@given(st.integers(min_value=0, max_value=10**8))
def test_durations_come_back(seconds: int) -> None:
    assert read_duration(duration_text(seconds)) == seconds


@given(st.text())
def test_escaped_text_is_one_printable_line(text: str) -> None:
    assert escape(text).isprintable()
