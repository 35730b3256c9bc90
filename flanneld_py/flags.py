"""Flags in Go's syntax, read by a table: argv and environment -> typed values.

Responsible for the syntax that flannel's users know (flannel-compat 1.1, 1.2): one or two dashes,
``-name value`` or ``-name=value``, booleans that need ``=``, integers with base prefixes, ``--``,
repeated flags, and the environment twins. Must not know any flag: the table is an argument. Must
not judge what a value means (`settings`), and must never show the value of a secret flag.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from flanneld_py.flagvalues import duration_text, read_boolean, read_duration, read_integer

ENVIRONMENT_PREFIX = "FLANNELD_"
"""``--etcd-prefix`` has the twin ``FLANNELD_ETCD_PREFIX``."""
FOREIGN_PREFIX = "FLANNELD_PY_"
"""Variables of our own tools, which are no twins of a flag."""
HELP_NAMES = frozenset({"h", "help"})

Value = str | bool | int | float | tuple[str, ...]


class UsageError(Exception):
    """What the user typed cannot be used; each problem is one line with its remedy."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class HelpRequested(Exception):
    """``-h`` or ``--help`` stands among the flags."""


class Kind(Enum):
    """How the text of a flag is read; the value is what help calls it."""

    TEXT = "text"
    TEXTS = "text, repeatable"
    BOOLEAN = "true or false"
    INTEGER = "number"
    DURATION = "duration"
    CHOICE = "choice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One row of a table of flags."""

    name: str
    """Without dashes."""
    kind: Kind
    default: Value
    """Of the type that `kind` reads; seconds for a duration."""
    help: str
    """What it means, for people; the default is added by whoever prints it."""
    section: str = ""
    """Heading under which help lists it."""
    metavar: str = ""
    """What stands for the value in help, e.g. ``IP``."""
    choices: tuple[str, ...] = ()
    """The valid words of a CHOICE."""
    secret: bool = False
    """The value never appears in any message."""
    environment: bool = True
    """Whether it has an environment twin."""
    idle: str = ""
    """Why it changes nothing, although it is accepted; empty for a flag that has an effect."""
    example: str = ""
    """A value that somebody might give, for the reference; empty where the default says enough."""

    @property
    def variable(self) -> str:
        """Name of the environment twin."""
        return ENVIRONMENT_PREFIX + self.name.upper().replace("-", "_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """The values of all flags of a table."""

    values: Mapping[str, Value]
    """By flag name; defaults included."""
    origins: Mapping[str, str]
    """``--name`` or the variable's name, for each flag that was given."""
    leftover: tuple[str, ...] = ()
    """Arguments from the first one on that is no flag; nothing behind it was read."""
    warnings: tuple[str, ...] = ()
    """What was ignored, and why."""

    def text(self, name: str) -> str:
        """The value of a TEXT or CHOICE flag."""
        value = self.values[name]
        assert isinstance(value, str)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """The values of a repeatable flag, in order."""
        value = self.values[name]
        assert isinstance(value, tuple)
        return value

    def boolean(self, name: str) -> bool:
        """The value of a BOOLEAN flag."""
        value = self.values[name]
        assert isinstance(value, bool)
        return value

    def integer(self, name: str) -> int:
        """The value of an INTEGER flag."""
        value = self.values[name]
        assert isinstance(value, int)
        return value

    def seconds(self, name: str) -> float:
        """The value of a DURATION flag."""
        value = self.values[name]
        assert isinstance(value, int | float)
        return float(value)

    def origin(self, name: str) -> str:
        """Where the value came from, as messages call it: flag, variable, or the flag's name."""
        return self.origins.get(name, f"--{name}")


def parse(
    table: Sequence[Flag], argv: Sequence[str], environ: Mapping[str, str] | None = None
) -> Parsed:
    """Read `argv` (without the program's name), then the twins in `environ`.

    Raises UsageError at the first flag that is unknown or badly valued, HelpRequested at a -h. A
    bad value in the environment is a warning, and the default is used (flannel-compat 1.2).
    """
    by_name = {flag.name: flag for flag in table}
    given, leftover = _read_arguments(by_name, argv)
    origins = {name: f"--{name}" for name in given}
    warnings: list[str] = []
    for flag in table:
        text = (environ or {}).get(flag.variable, "") if flag.environment else ""
        if flag.name in given or not text:
            continue
        try:
            given[flag.name] = _read_value(flag, text)
            origins[flag.name] = flag.variable
        except ValueError as error:
            shown = _shown_default(flag)
            warnings.append(f"{flag.variable}: {error}: ignored, the default {shown} is used")
    warnings += _unknown_variables(table, environ or {})
    values = {flag.name: given.get(flag.name, flag.default) for flag in table}
    return Parsed(
        values=values, origins=origins, leftover=tuple(leftover), warnings=tuple(warnings)
    )


def nearest(name: str, valid: Iterable[str]) -> str:
    """The valid name that `name` most likely means; empty when none is near."""
    from difflib import get_close_matches

    found = get_close_matches(name.lower().replace("_", "-"), list(valid), n=1, cutoff=0.6)
    return found[0] if found else ""


def _read_arguments(
    by_name: Mapping[str, Flag], argv: Sequence[str]
) -> tuple[dict[str, Value], Sequence[str]]:
    """The flags of the command line and what is left behind the last of them."""
    given: dict[str, Value] = {}
    rest = list(argv)
    while rest:
        argument = rest[0]
        if argument == "--":
            return given, rest[1:]
        if len(argument) < 2 or not argument.startswith("-"):
            break
        del rest[0]
        name, equals, text = argument.removeprefix("-").removeprefix("-").partition("=")
        flag = _find(by_name, name, argument)
        if not equals and flag.kind is not Kind.BOOLEAN:
            if not rest:
                raise UsageError([f"--{name} needs a value: write --{name}={_metavar(flag)}"])
            text = rest.pop(0)
        try:
            value = _read_value(flag, text if equals or flag.kind is not Kind.BOOLEAN else "true")
        except ValueError as error:
            raise UsageError([f"--{name}: {error}"]) from None
        before = given.get(name)
        given[name] = before + value if _both_lists(before, value) else value  # type: ignore[operator]
    return given, rest


def _both_lists(before: Value | None, value: Value) -> bool:
    return isinstance(before, tuple) and isinstance(value, tuple)


def _find(by_name: Mapping[str, Flag], name: str, argument: str) -> Flag:
    """The flag called `name`; the value is never shown, it may be a mistyped secret's."""
    if name in by_name:
        return by_name[name]
    if name in HELP_NAMES:
        raise HelpRequested
    if not name or name.startswith("-"):
        shown = argument.partition("=")[0]
        raise UsageError([f"{shown!r} is not a flag: write --name=value"])
    near = nearest(name, by_name)
    remedy = f"did you mean --{near}?" if near else "--help lists all flags"
    raise UsageError([f"unknown flag --{name}: {remedy}"])


def _read_value(flag: Flag, text: str) -> Value:
    """The value of `flag` that `text` means; ValueError says why there is none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("the value is not valid UTF-8") from None
    if flag.kind is Kind.BOOLEAN:
        return read_boolean(text)
    if flag.kind is Kind.INTEGER:
        return read_integer(text)
    if flag.kind is Kind.DURATION:
        return read_duration(text)
    if flag.kind is Kind.TEXTS:
        return (text,)
    if flag.kind is Kind.CHOICE and text not in flag.choices:
        near = nearest(text, flag.choices)
        hint = f", did you mean {near}?" if near else ""
        raise ValueError(f"{text!r} is not one of {', '.join(flag.choices)}{hint}")
    return text


def _unknown_variables(table: Sequence[Flag], environ: Mapping[str, str]) -> list[str]:
    """A line for each variable that looks like a twin, but of no flag; flannel says nothing."""
    known = {flag.variable for flag in table}
    lines = []
    for name in sorted(environ):
        foreign = name.startswith(FOREIGN_PREFIX)
        if foreign or not name.startswith(ENVIRONMENT_PREFIX) or name in known:
            continue
        flags = {flag.name: flag.variable for flag in table}
        near = nearest(name.removeprefix(ENVIRONMENT_PREFIX), flags)
        hint = f", did you mean {flags[near]}?" if near else ""
        lines.append(f"{name}: no flag has this twin: ignored{hint}")
    return lines


def _metavar(flag: Flag) -> str:
    if flag.choices:
        return "|".join(flag.choices)
    return flag.metavar or flag.kind.value.upper().partition(",")[0]


def shown_default(flag: Flag) -> str:
    """The default for people; empty when there is none."""
    if isinstance(flag.default, bool):
        return "true" if flag.default else "false"
    if isinstance(flag.default, tuple):
        return ", ".join(flag.default)
    if flag.kind is Kind.DURATION:
        return duration_text(float(flag.default))
    return str(flag.default)


def _shown_default(flag: Flag) -> str:
    return shown_default(flag) or "(none)"


def shown_value(flag: Flag) -> str:
    """What stands for the value of `flag` in help; empty for a boolean."""
    return "" if flag.kind is Kind.BOOLEAN else _metavar(flag)
