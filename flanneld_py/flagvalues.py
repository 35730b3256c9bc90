"""Texts of single flag values in Go's notation: booleans, integers, durations.

Pure functions. Each raises ValueError with one clause that shows the text and what would be valid.
"""

from __future__ import annotations

import re

TRUE_WORDS = frozenset({"1", "t", "T", "true", "TRUE", "True"})
FALSE_WORDS = frozenset({"0", "f", "F", "false", "FALSE", "False"})

# A leading 0 alone means octal, and digits may be grouped by underscores (Go: strconv.ParseInt
# with base 0).
_INTEGER = re.compile(
    r"(?P<sign>[+-]?)(?:0[xX](?P<hex>(?:_?[0-9a-fA-F])+)|0[bB](?P<bin>(?:_?[01])+)"
    r"|0[oO]?(?P<oct>(?:_?[0-7])+)|(?P<dec>0|[1-9](?:_?[0-9])*))",
    re.ASCII,
)
_BASES = {"hex": 16, "bin": 2, "oct": 8, "dec": 10}
_DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_UNIT_SECONDS = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0,
}  # fmt: skip


def read_boolean(text: str) -> bool:
    """Go's words for true and false (strconv.ParseBool)."""
    if text in TRUE_WORDS:
        return True
    if text in FALSE_WORDS:
        return False
    raise ValueError(f"{text!r} is neither true nor false: write true or false")


def read_integer(text: str) -> int:
    """An integer as Go reads it with base 0: 60, 0x3c, 0o74, 074, 0b111100, 1_000."""
    match = _INTEGER.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a whole number: write for example 60 or 0x3c")
    base = next(name for name in _BASES if match[name] is not None)
    number = int(match["sign"] + match[base].replace("_", ""), _BASES[base])
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{text!r} does not fit into 64 bits")
    return number


def read_duration(text: str) -> float:
    """A duration as Go writes it (time.ParseDuration): 90s, 10m, 1h30m, 1.5h; in seconds."""
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0.0
    seconds = 0.0
    position = 0
    while position < len(rest) and (match := _DURATION_PART.match(rest, position)):
        seconds += float(match[1]) * _UNIT_SECONDS[match[2]]
        position = match.end()
    if not rest or position != len(rest):
        raise ValueError(f"{text!r} is not a duration: write for example 90s, 10m or 24h")
    return -seconds if text.startswith("-") else seconds


def duration_text(seconds: float) -> str:
    """A duration in the words that `read_duration` understands, shortest form: 24h, 1h30m, 90s."""
    if seconds != int(seconds) or seconds % 60:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
    hours, minutes = divmod(int(seconds) // 60, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if minutes or not hours else "")
