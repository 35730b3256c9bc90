from __future__ import annotations

import pytest

from flanneld_py.flags import Flag, HelpRequested, Kind, UsageError, nearest, parse
from flanneld_py.flagtable import AGENT_FLAGS
from flanneld_py.flagvalues import duration_text, read_boolean, read_duration, read_integer

TABLE = (
    Flag(name="name", kind=Kind.TEXT, default="anna", help=""),
    Flag(name="on", kind=Kind.BOOLEAN, default=False, help=""),
    Flag(name="off", kind=Kind.BOOLEAN, default=True, help=""),
    Flag(name="count", kind=Kind.INTEGER, default=5, help=""),
    Flag(name="wait", kind=Kind.DURATION, default=60.0, help=""),
    Flag(name="form", kind=Kind.CHOICE, default="auto", choices=("auto", "round"), help=""),
    Flag(name="each", kind=Kind.TEXTS, default=(), help=""),
    Flag(name="pass-word", kind=Kind.TEXT, default="", secret=True, help=""),
    Flag(name="quiet", kind=Kind.BOOLEAN, default=False, environment=False, help=""),
)


def problem_of(*argv: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse(TABLE, argv)
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize(
    "argv", [["--name=bob"], ["-name=bob"], ["--name", "bob"], ["-name", "bob"]]
)
def test_one_or_two_dashes_with_or_without_equals(argv: list[str]) -> None:
    parsed = parse(TABLE, argv)
    assert parsed.text("name") == "bob"
    assert parsed.origin("name") == "--name"
    assert not parsed.leftover


def test_defaults_stand_for_what_is_not_given() -> None:
    parsed = parse(TABLE, [])
    assert parsed.text("name") == "anna"
    assert parsed.boolean("off") is True
    assert parsed.integer("count") == 5
    assert parsed.seconds("wait") == 60.0
    assert parsed.texts("each") == ()
    assert not parsed.origins


def test_a_value_may_begin_with_a_dash_hold_an_equals_sign_or_be_empty() -> None:
    parsed = parse(TABLE, ["--name", "--on", "--count", "-3", "--each=a=b", "--each="])
    assert parsed.text("name") == "--on"
    assert parsed.integer("count") == -3
    assert parsed.texts("each") == ("a=b", "")


def test_repeated_texts_add_up_and_others_are_overwritten() -> None:
    parsed = parse(TABLE, ["--each=a", "--name=x", "-each", "b", "--name=y"])
    assert parsed.texts("each") == ("a", "b")
    assert parsed.text("name") == "y"


def test_a_boolean_takes_its_value_behind_equals_only() -> None:
    parsed = parse(TABLE, ["--off=false", "--on", "true", "--count=9"])
    assert parsed.boolean("off") is False
    assert parsed.boolean("on") is True
    assert parsed.leftover == ("true", "--count=9")
    assert parsed.integer("count") == 5


@pytest.mark.parametrize("argv", [["--on", "--", "--count=9"], ["--on", "--count=9"]])
def test_two_dashes_end_the_flags(argv: list[str]) -> None:
    parsed = parse(TABLE, argv)
    assert parsed.integer("count") == (5 if "--" in argv else 9)
    assert parsed.leftover == (("--count=9",) if "--" in argv else ())


def test_a_single_dash_is_no_flag() -> None:
    assert parse(TABLE, ["-", "--on"]).leftover == ("-", "--on")


@pytest.mark.parametrize("argv", [["-h"], ["--help"], ["--on", "-help"]])
def test_help_is_asked_for(argv: list[str]) -> None:
    with pytest.raises(HelpRequested):
        parse(TABLE, argv)


def test_an_unknown_flag_is_named_with_the_nearest_and_without_its_value() -> None:
    assert problem_of("--nmae=hunter2") == "unknown flag --nmae: did you mean --name?"
    assert (
        problem_of("--pass_word=hunter2") == "unknown flag --pass_word: did you mean --pass-word?"
    )
    assert problem_of("--zzz") == "unknown flag --zzz: --help lists all flags"


@pytest.mark.parametrize("argument", ["---name=hunter2", "--=hunter2", "-=hunter2"])
def test_what_is_no_flag_at_all_is_refused_without_its_value(argument: str) -> None:
    problem = problem_of(argument)
    assert "is not a flag" in problem
    assert "hunter2" not in problem


def test_bad_values_are_named_with_what_would_be_valid() -> None:
    assert problem_of("--on=yes") == "--on: 'yes' is neither true nor false: write true or false"
    assert problem_of("--count", "x").startswith("--count: 'x' is not a whole number")
    assert problem_of("--wait=5").startswith("--wait: '5' is not a duration")
    assert problem_of("--form=roud") == (
        "--form: 'roud' is not one of auto, round, did you mean round?"
    )
    assert problem_of("--name") == "--name needs a value: write --name=TEXT"
    assert problem_of("--form") == "--form needs a value: write --form=auto|round"
    assert problem_of("--name=\udcff") == "--name: the value is not valid UTF-8"


def test_the_environment_fills_in_what_the_command_line_leaves_open() -> None:
    environ = {
        "FLANNELD_NAME": "eve",
        "FLANNELD_COUNT": "0x10",
        "FLANNELD_EACH": "a,b",
        "FLANNELD_ON": "",
        "FLANNELD_PASS_WORD": "x",
        "FLANNELD_QUIET": "true",
    }
    parsed = parse(TABLE, ["--name=bob"], environ)
    assert parsed.text("name") == "bob"
    assert parsed.integer("count") == 16
    assert parsed.texts("each") == ("a,b",)
    assert parsed.boolean("on") is False
    assert parsed.text("pass-word") == "x"
    assert parsed.boolean("quiet") is False
    assert parsed.origin("count") == "FLANNELD_COUNT"
    assert not parsed.warnings


def test_a_bad_value_in_the_environment_is_a_warning_and_the_default_is_used() -> None:
    parsed = parse(TABLE, [], {"FLANNELD_COUNT": "many"})
    assert parsed.integer("count") == 5
    (warning,) = parsed.warnings
    assert warning.startswith("FLANNELD_COUNT: 'many' is not a whole number")
    assert warning.endswith("ignored, the default 5 is used")


def test_a_variable_without_a_flag_is_named_but_not_our_tools_own() -> None:
    parsed = parse(TABLE, [], {"FLANNELD_CUONT": "7", "FLANNELD_PY_TOOLS": "x", "HOME": "/"})
    assert parsed.warnings == (
        "FLANNELD_CUONT: no flag has this twin: ignored, did you mean FLANNELD_COUNT?",
    )


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0), ("60", 60), ("-60", -60), ("+7", 7), ("0x3c", 60), ("0X3C", 60), ("0o74", 60),
        ("074", 60), ("0b111100", 60), ("1_000", 1000), ("0x_ff", 255), ("-0x10", -16), ("00", 0),
        ("9223372036854775807", 2**63 - 1), ("-9223372036854775808", -(2**63)),
    ],
)  # fmt: skip
def test_integers_are_read_as_in_go(text: str, number: int) -> None:
    assert read_integer(text) == number


@pytest.mark.parametrize(
    "text",
    ["", " 1", "1 ", "08", "1__0", "_1", "1_", "0x", "1.0", "٣", "1e3", "9223372036854775808"],
)
def test_what_go_reads_as_no_integer_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a whole number|does not fit"):
        read_integer(text)


@pytest.mark.parametrize("text", ["1", "t", "T", "true", "TRUE", "True"])
def test_go_words_for_true(text: str) -> None:
    assert read_boolean(text) is True


@pytest.mark.parametrize("text", ["0", "f", "F", "false", "FALSE", "False"])
def test_go_words_for_false(text: str) -> None:
    assert read_boolean(text) is False


@pytest.mark.parametrize("text", ["", "yes", "on", "tRUE", "2"])
def test_other_words_are_no_booleans(text: str) -> None:
    with pytest.raises(ValueError, match="neither true nor false"):
        read_boolean(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0), ("90s", 90.0), ("10m", 600.0), ("24h", 86400.0), ("1h30m", 5400.0),
        ("1.5h", 5400.0), (".5s", 0.5), ("1.s", 1.0), ("300ms", 0.3), ("2us", 2e-6), ("2µs", 2e-6),
        ("7ns", 7e-9), ("-1m", -60.0), ("+1m", 60.0),
    ],
)  # fmt: skip
def test_durations_are_read_as_in_go(text: str, seconds: float) -> None:
    assert read_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "1d", "1h 30m", "1h30", "--1s", "-", ".s", "1e3s"])
def test_what_go_reads_as_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        read_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(86400, "24h"), (5400, "1h30m"), (90, "90s"), (60, "1m"), (0, "0m"), (0.5, "0.5s")],
)
def test_durations_are_shown_as_they_can_be_written(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
    assert read_duration(text) == seconds


def test_nearest_takes_underscores_and_capitals_for_what_they_mean() -> None:
    assert nearest("ETCD_PREFIX", ["etcd-prefix", "iface"]) == "etcd-prefix"
    assert nearest("qqq", ["etcd-prefix", "iface"]) == ""


def test_the_agents_table_has_each_flag_of_flannel_with_its_default() -> None:
    # flannel-compat 1.1, the whole of it.
    flannel = {
        "etcd-endpoints": "http://127.0.0.1:4001,http://127.0.0.1:2379",
        "etcd-prefix": "/coreos.com/network",
        "etcd-keyfile": "", "etcd-certfile": "", "etcd-cafile": "",
        "etcd-username": "", "etcd-password": "",
        "iface": (), "iface-regex": (), "iface-can-reach": "", "public-ip": "", "public-ipv6": "",
        "subnet-file": "/run/flannel/subnet.env", "subnet-lease-renew-margin": 60,
        "ip-masq": False, "ip-masq-fully-random-disable": False,
        "kube-subnet-mgr": False, "kube-api-url": "", "kubeconfig-file": "",
        "kube-annotation-prefix": "flannel.alpha.coreos.com",
        "net-config-path": "/etc/kube-flannel/net-conf.json",
        "set-node-network-unavailable": True, "healthz-ip": "0.0.0.0", "healthz-port": 0,
        "iptables-resync": 5, "iptables-forward-rules": True, "ip-blackhole-route": False,
        "version": False, "v": 0, "vmodule": "", "log_backtrace_at": "",
    }  # fmt: skip
    parsed = parse(AGENT_FLAGS, [])
    assert {name: parsed.values[name] for name in flannel} == flannel
    assert len({flag.name for flag in AGENT_FLAGS}) == len(AGENT_FLAGS)
    assert all(flag.help and flag.section for flag in AGENT_FLAGS)
