"""Where the programs are that tests, benches and the demo run: iproute2, etcd, CNI plugins, ...

`make setup` unpacks them into `.venv/tools` of the checkout; `FLANNELD_PY_TOOLS` names another
folder with `bin/` and `cni/`. Looks up only; must not fetch anything.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent.parent
"""Top of the checkout (of the installed packages, where there is none)."""


class ToolMissing(Exception):
    """A program that is needed is nowhere; the message says how to get it."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"{name} is neither in {tools_folder()} nor on this system: run `make setup`, or name "
            "a folder that has it (in bin/ or cni/) in FLANNELD_PY_TOOLS"
        )


def tools_folder() -> Path:
    """Return the folder that holds `bin/` and `cni/`; it may be absent."""
    if named := os.environ.get("FLANNELD_PY_TOOLS"):
        return Path(named).absolute()
    return CHECKOUT / ".venv/tools"


def find_tool(name: str) -> Path:
    """Return the path of a program, such as ``ip``, ``etcd`` or ``cni/bridge``.

    What the system itself brings serves where set-up brought nothing, CNI plugins excepted.
    Raises `ToolMissing`.
    """
    own = tools_folder() / (name if name.startswith("cni/") else f"bin/{name}")
    if own.exists():
        return own
    system = None if "/" in name else shutil.which(name, path=search_path())
    if system is None:
        raise ToolMissing(name)
    return Path(system)


def has_tool(name: str) -> bool:
    """Say whether `find_tool` would find a program."""
    try:
        find_tool(name)
    except ToolMissing:
        return False
    return True


def cni_folder() -> Path:
    """Return the folder of CNI plugins, for ``CNI_PATH``. Raises `ToolMissing`."""
    return find_tool("cni/bridge").parent


def search_path() -> str:
    """Return a PATH on which our tools come first and the system's administration tools exist."""
    system = os.environ.get("PATH", "")
    return f"{tools_folder() / 'bin'}:{system}:/usr/sbin:/sbin:/usr/bin:/bin"
