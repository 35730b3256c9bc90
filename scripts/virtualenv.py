"""The checkout's Python environment `.venv`: made, filled with pinned packages, and remembered.

Works without Debian's python3-venv too. Must not touch anything outside of `.venv`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from pathlib import Path
from typing import Any

import debian
from progress import SetupError, say

_STAMP = "setup.json"
_BUILD_PINS = "requirements/build.txt"
_SAY_AFTER = 5.0
"""Seconds without a word after which the next line of pip's is shown."""
_PIP_REMEDY = (
    "if that speaks of the network, check pip's index and proxy settings (pip config list), "
    "then run this again"
)


class Environment:
    """`.venv` of one checkout."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout
        self.folder = checkout / ".venv"
        self.python = self.folder / "bin/python"
        self.command = self.folder / "bin/flanneld-py"

    def is_filled(self, profile: str, wish: str) -> bool:
        """Say whether the last set-up of a profile was for this very wish (see `wish`)."""
        done = self._stamp()["profiles"]
        return bool(done.get(profile) == wish and self.python.exists() and self.command.exists())

    def wish(self, profile: str) -> str:
        """Return a hash of everything that decides what set-up would install."""
        digest = hashlib.sha256(repr(_identity(self.checkout)).encode())
        for text in _with_includes(self._requirements(profile)):
            digest.update(text.encode())
        project = tomllib.loads((self.checkout / "pyproject.toml").read_text())
        parts = (project["project"], project["build-system"], project["tool"]["setuptools"])
        digest.update(json.dumps(parts, sort_keys=True).encode())
        for module in sorted(Path(__file__).parent.glob("*.py")):
            digest.update(module.read_bytes())
        return digest.hexdigest()

    def make(self, cache: Path) -> None:
        """Make the environment with pip in it, anew if it belongs to another Python or folder."""
        usable = self._stamp()["identity"] == _identity(self.checkout) and _runs_pip(self.python)
        if usable:
            return
        say(f"making .venv with Python {sys.version.split()[0]} ({sys.executable})")
        # ensurepip, if there is one, runs below: Debian has venv without it.
        for entry in ("bin", "lib", "lib64", "include", "pyvenv.cfg", _STAMP):
            _remove(self.folder / entry)
        venv.create(self.folder, symlinks=True, with_pip=False)
        if importlib.util.find_spec("ensurepip"):
            self._run("-m", "ensurepip", "--upgrade", "--default-pip")
        else:
            self._pip_from_debian(cache)
        self._write_stamp({"identity": _identity(self.checkout), "profiles": {}})

    def fill(self, profile: str) -> None:
        """Install the pinned packages of a profile, and the project itself as an editable one."""
        count = sum(
            bool(re.match(r"\w", line))
            for text in _with_includes(self._requirements(profile))
            for line in text.splitlines()
        )
        say(f"pip: {count} packages, pinned in requirements/{profile}.txt")
        self._pip("install", "--use-pep517", "--requirement", str(self._requirements(profile)))
        say("pip: this project, editable")
        self._pip("install", "--no-build-isolation", "--no-deps", "--editable", str(self.checkout))

    def remember(self, profile: str, wish: str) -> None:
        """Note that a profile is complete, so that the next run has nothing to do."""
        stamp = self._stamp()
        stamp["profiles"][profile] = wish
        self._write_stamp(stamp)

    def _requirements(self, profile: str) -> Path:
        return self.checkout / "requirements" / f"{profile}.txt"

    def _stamp(self) -> dict[str, Any]:
        try:
            stamp: dict[str, Any] = json.loads((self.folder / _STAMP).read_text())
            return {"identity": stamp["identity"], "profiles": dict(stamp["profiles"])}
        except (OSError, ValueError, KeyError, TypeError):
            return {"identity": None, "profiles": {}}

    def _write_stamp(self, stamp: dict[str, Any]) -> None:
        new = self.folder / f"{_STAMP}.new"
        new.write_text(json.dumps(stamp, indent=2) + "\n")
        new.replace(self.folder / _STAMP)

    def _pip_from_debian(self, cache: Path) -> None:
        """Install pip from the wheel that Debian packages for its own venv module."""
        say("this Python has no ensurepip; taking pip from the package python3-pip-whl")
        with (
            debian.locked(cache),
            tempfile.TemporaryDirectory(prefix="new-", dir=cache) as unpacked,
        ):
            debs = debian.Archive(cache).fetch(["python3-pip-whl"], libraries=False)
            debian.unpack(debs, Path(unpacked))
            wheels = list(Path(unpacked).glob("usr/share/python-wheels/pip-*.whl"))
            if not wheels:
                raise SetupError("python3-pip-whl has no pip; install the package python3-venv")
            wheel = wheels[0]
            self._run(f"{wheel}/pip", "install", "--quiet", "--no-index", str(wheel))

    def _pip(self, *arguments: str) -> None:
        plain = ("--no-input", "--disable-pip-version-check", "--progress-bar", "off")
        self._run("-m", "pip", arguments[0], *plain, *arguments[1:])

    def _run(self, *arguments: str) -> None:
        """Run the environment's Python; say now and then what it does, and all if it fails."""
        # What the caller set for other environments does not hold for this one.
        foreign = ("PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX", "VIRTUAL_ENV")
        environment = {name: value for name, value in os.environ.items() if name not in foreign}
        environment |= {"PIP_USER": "0", "PIP_ROOT_USER_ACTION": "ignore", "PYTHONUNBUFFERED": "1"}
        # What comes as source is built with our pinned setuptools; older and newer pip differ in
        # the name. Relative, because pip splits the value at spaces.
        environment |= dict.fromkeys(("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT"), _BUILD_PINS)
        words: list[str] = []
        with subprocess.Popen(
            [str(self.python), *arguments],
            cwd=self.checkout,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout
            last_said = time.monotonic()
            for line in process.stdout:
                words.append(line.rstrip())
                if time.monotonic() - last_said > _SAY_AFTER:
                    say(f"pip: {line.strip()[:80]}")
                    last_said = time.monotonic()
        if process.returncode:
            shown = [f"    {line}" for line in words if line][-12:]
            failed = f"this failed: {self.python} {' '.join(arguments)}"
            raise SetupError("\n".join([failed, *shown, f"setup: {_PIP_REMEDY}"]))


def _identity(checkout: Path) -> list[str]:
    """Return what a virtual environment is bound to: its folder and its Python."""
    return [str(checkout), sys.version, str(Path(sys.base_prefix).resolve())]


def _runs_pip(python: Path) -> bool:
    command = [str(python), "-c", "import pip"]
    return (
        python.exists() and not subprocess.run(command, capture_output=True, check=False).returncode
    )


def _with_includes(requirements: Path) -> list[str]:
    text = requirements.read_text()
    texts = [text]
    for included in re.findall(r"^-r (\S+)", text, re.MULTILINE):
        texts += _with_includes(requirements.parent / included)
    return texts


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
