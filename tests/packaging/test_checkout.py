"""What a person who clones the repository meets: README, make commands, files without traces."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
BUILT = {".git", ".venv", "__pycache__", "build", "dist"}


def tracked_files() -> list[Path]:
    """Return the files of the repository; without git (a tarball), those that are no output."""
    try:
        listed = subprocess.run(
            ["git", "-C", str(CHECKOUT), "ls-files", "-z"], capture_output=True, check=True
        )
        files = [CHECKOUT / os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]
    except (OSError, subprocess.CalledProcessError):
        files = [
            path
            for path in CHECKOUT.rglob("*")
            if not BUILT & set(path.relative_to(CHECKOUT).parts)
            and not re.match(r"\.\w+_cache|\.venv", path.relative_to(CHECKOUT).parts[0])
        ]
    return [path for path in files if path.is_file() and not path.is_symlink()]


def text_of(path: Path) -> str:
    return path.read_bytes().decode("utf-8", errors="replace")


def make_commands() -> set[str]:
    """Return the commands that the Makefile defines, by its .PHONY line."""
    makefile = (CHECKOUT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY:(.*)$", makefile, re.MULTILINE)
    assert phony
    return set(phony[1].split())


def test_make_alone_lists_every_command() -> None:
    listed = subprocess.run(
        ["make", "-C", str(CHECKOUT), "--no-print-directory"],
        capture_output=True,
        text=True,
        check=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
    ).stdout
    for command in make_commands():
        assert re.search(rf"^  {command} +\w", listed, re.MULTILINE), f"{command} is not listed"


def test_readme_starts_with_the_two_commands() -> None:
    blocks = re.findall(r"```(?:sh)?\n(.*?)```", (CHECKOUT / "README.md").read_text(), re.DOTALL)
    commands = [line.split("#")[0].strip() for line in blocks[0].splitlines()]
    assert [command for command in commands if command] == ["make demo", "make test"]


def test_readme_names_only_make_commands_that_exist() -> None:
    readme = (CHECKOUT / "README.md").read_text()
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", readme, re.MULTILINE))
    assert {"demo", "test"} <= named <= make_commands()


def test_readme_and_changelog_link_to_files_that_exist() -> None:
    for name in ("README.md", "CHANGELOG.md"):
        for target in re.findall(r"\]\((?!\w+:|#)([^)#]+)", (CHECKOUT / name).read_text()):
            assert (CHECKOUT / target).exists(), f"{name} links to {target}"


# Put together here, so that this file does not name them either.
REGISTRIES = [
    "py" + "pi.org",
    "python" + "hosted.org",
    "deb.debian" + ".org",
    "proxy.golang" + ".org",
]
HOMES = ["/ho" + "me/", "/Us" + "ers/", "/ro" + "ot/", "/wo" + "rk/"]


@pytest.mark.parametrize("host", REGISTRIES)
def test_no_file_names_a_package_registry(host: str) -> None:
    """Whoever has a mirror configured gets everything from there."""
    assert [path for path in tracked_files() if host in text_of(path)] == []


@pytest.mark.parametrize("home", HOMES)
def test_no_file_names_a_folder_of_a_developers_machine(home: str) -> None:
    pattern = re.compile(rf"(?<![\w./-]){re.escape(home)}\w")
    assert [path for path in tracked_files() if pattern.search(text_of(path))] == []


def test_no_file_is_a_bag_of_unrelated_things() -> None:
    bags = {"utils.py", "helpers.py", "common.py"}
    assert [path for path in tracked_files() if path.name in bags] == []


def test_every_script_is_executable_or_run_by_its_interpreter() -> None:
    for path in [CHECKOUT / ".ci/run", CHECKOUT / "scripts/isolated"]:
        assert os.access(path, os.X_OK), f"{path} is not executable"


def test_the_command_is_installed() -> None:
    command = Path(sys.executable).with_name("flanneld-py")
    assert command.exists(), "make setup installs it"
