"""What a user installs: the wheel, and the command in it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import flanneld_py

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = {"subnet", "backends", "flanneld_py"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Build the wheel from a copy, so that nothing is left in the checkout."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE", *PACKAGES, "tests", "scripts"):
        (source / name).symlink_to(CHECKOUT / name)
    target = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--no-build-isolation", "--wheel-dir", str(target), str(source)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (built,) = target.glob("*.whl")
    return zipfile.ZipFile(built)


def test_wheel_holds_three_packages_and_metadata_alone(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    metadata = {top for top in tops if top.endswith(".dist-info")}
    assert tops - metadata == PACKAGES
    assert metadata == {f"flanneld_py-{flanneld_py.__version__}.dist-info"}


def test_wheel_holds_every_module(wheel: zipfile.ZipFile) -> None:
    modules = {
        str(path.relative_to(CHECKOUT))
        for package in PACKAGES
        for path in (CHECKOUT / package).rglob("*.py")
    }
    assert modules - set(wheel.namelist()) == set()


def test_wheel_has_license_and_command(wheel: zipfile.ZipFile) -> None:
    files = {name.partition(".dist-info/")[2]: name for name in wheel.namelist()}
    assert "licenses/LICENSE" in files
    entry_points = wheel.read(files["entry_points.txt"]).decode()
    assert "flanneld-py = flanneld_py.__main__:main" in entry_points
    metadata = wheel.read(files["METADATA"]).decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.11" in metadata


def test_every_library_is_justified_by_a_comment_above_it() -> None:
    text = (CHECKOUT / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    libraries = [*project["dependencies"]]
    for extra in ("kube", "diagnose"):
        libraries += project["optional-dependencies"][extra]
    lines = [line.strip() for line in text.splitlines()]
    for library in libraries:
        above = lines[lines.index(f'"{library}",') - 1]
        assert above.startswith("# "), f"{library} has no reason beside it"


def test_pins_are_exact_and_within_the_ranges() -> None:
    pins = {}
    for file in (CHECKOUT / "requirements").glob("*.txt"):
        for line in file.read_text().splitlines():
            if line and not line.startswith(("#", "-r ")):
                name, exact, version = line.partition("==")
                assert exact, f"{file.name}: {line} is not pinned"
                pins[name.lower()] = version
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    for library in project["dependencies"]:
        name = library.replace(">", "=").partition("=")[0]
        assert name in pins, f"{library} is not pinned in requirements/"
