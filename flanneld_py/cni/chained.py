"""Plugins that others have chained into our conflist, such as service meshes: kept where they are.

Pure. A conflist of ours carries a list of the plugins that are ours under the key `flanneld-py`,
which runtimes do not read (ADR 0007): whatever else is in the chain is somebody's, and stays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flanneld_py.cni.conf import SHIM

MARK = "flanneld-py"
"""Top-level key; its value has the types of our plugins under `plugins`."""

Conflist = Mapping[str, Any]


def marked(conflist: Conflist) -> dict[str, Any]:
    """The conflist, saying which of its plugins are ours: all."""
    return {**conflist, MARK: {"plugins": [plugin["type"] for plugin in conflist["plugins"]]}}


def is_marked(text: str) -> bool:
    """Whether we wrote this, whoever has added to it since."""
    found = decode(text)
    return found is not None and MARK in found


def decode(text: str) -> dict[str, Any] | None:
    """A conflist whose plugins are objects with a type; None for anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    plugins = found.get("plugins") if isinstance(found, dict) else None
    if not isinstance(plugins, list):
        return None
    whole = all(isinstance(one, dict) and isinstance(one.get("type"), str) for one in plugins)
    return found if whole else None


def with_others(ours: Conflist, seen: Conflist | None) -> dict[str, Any]:
    """Our conflist with the plugins of others that stand in `seen`, each behind the same one.

    Of a conflist without the mark (flannel's, from before us), plugins of our types and the shim
    are ours. What we wrote earlier and do not want any more goes.
    """
    plugins = list(ours["plugins"])
    if seen is None:
        return {**ours, "plugins": plugins}
    mine = {plugin["type"] for plugin in plugins} | {SHIM} | _types_of_mark(seen.get(MARK))
    place = 0
    for plugin in seen["plugins"]:
        if plugin["type"] in mine:
            place = _behind(plugins, plugin["type"], place)
        else:
            plugins.insert(place, plugin)
            place += 1
    return {**ours, "plugins": plugins}


def others_in(conflist: Conflist) -> tuple[str, ...]:
    """Types of the plugins that are not ours, in a conflist with our mark."""
    mine = _types_of_mark(conflist.get(MARK))
    return tuple(one["type"] for one in conflist["plugins"] if one["type"] not in mine)


def _behind(plugins: list[Mapping[str, Any]], kind: str, place: int) -> int:
    """The place behind our plugin of that type, or the same place if we have none any more."""
    if kind == SHIM:  # our delegate stands where the shim stood, first of ours in any chain known
        return max(place, 1)
    return next((at + 1 for at, one in enumerate(plugins) if one["type"] == kind), place)


def _types_of_mark(mark: object) -> set[str]:
    types = mark.get("plugins") if isinstance(mark, dict) else None
    return {one for one in types if isinstance(one, str)} if isinstance(types, list) else set()
