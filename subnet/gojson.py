r"""JSON the way Go's encoding/json reads and writes it, where that differs from Python's.

Keys match fields without regard to case, the last occurrence wins, NaN is no number; written text
has ``<``, ``>``, ``&`` and the two Unicode line separators escaped. Knows no field of ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

MAX_DEPTH = 64
"""Deepest nesting accepted. Go stops at 10,000; nothing of ours is deeper than 4."""

_ESCAPES = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)
_STRING_OR_SPACE = re.compile(r'"(?:[^"\\]|\\.)*"|[ \t\r\n]+')


def fold(name: str) -> str:
    """What two keys have in common when Go takes them for the same field.

    Go folds rune by rune, so that a full case folding which changes the length must not match.
    """
    folded = name.casefold()
    return folded if len(folded) == len(name) else name


def lookup(document: Mapping[str, object], field: str) -> Iterable[object]:
    """Every value given for `field`, in the order in which the document gives them."""
    wanted = fold(field)
    return [value for name, value in document.items() if fold(name) == wanted]


def parse_object(text: str) -> dict[str, object]:
    """Parse a document whose top is an object.

    Keys keep the order of their last occurrence. Raises ValueError, whose text is for people and
    never quotes the document, which may hold secrets.
    """
    try:
        document = json.loads(text, object_pairs_hook=_last_wins, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels") from None
    if not isinstance(document, dict):
        raise ValueError(f"an object is needed, not {kind_of(document)}")
    _limit_depth(document)
    return document


def kind_of(value: object) -> str:
    """What JSON calls the type of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an object" if isinstance(value, dict) else "an array"


def excerpt(value: object, limit: int = 80) -> str:
    """A value for people: on one line, in ASCII, bounded."""
    text = json.dumps(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def clean(text: str) -> str:
    """Lone surrogates, which cannot be encoded or logged, become U+FFFD as in Go."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def string(text: str) -> str:
    """A JSON string, with Go's escapes."""
    return json.dumps(clean(text), ensure_ascii=False).translate(_ESCAPES)


def compact(raw: str) -> str:
    """JSON text without white space between its tokens, which stay as they are written."""
    if not any(space in raw for space in " \t\r\n"):
        return raw
    return _STRING_OR_SPACE.sub(lambda m: m[0] if m[0][0] == '"' else "", raw)


def escaped(raw: str) -> str:
    """Valid JSON text with Go's escapes applied; outside of strings none of these can occur."""
    return raw.translate(_ESCAPES)


def _last_wins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document: dict[str, object] = {}
    for name, value in pairs:
        document.pop(name, None)
        document[name] = value
    return document


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is no JSON number")


def _limit_depth(document: object) -> None:
    level: list[object] = [document]
    for _ in range(MAX_DEPTH):
        level = [child for value in level for child in _children(value)]
        if not level:
            return
    raise ValueError(f"nested deeper than {MAX_DEPTH} levels")


def _children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
