from __future__ import annotations

import subprocess

import pytest

from flanneld_py.cli.completion import SHELLS, flag_tables, main
from flanneld_py.flagtable import AGENT_FLAGS, COMMANDS


def bash_completes(script: str, line: str) -> list[str]:
    """What bash would offer at the end of `line`."""
    # bash cuts words at '=', as its COMP_WORDBREAKS says.
    words = line.replace("=", " = ").split() + ([""] if line.endswith((" ", "=")) else [])
    quoted = " ".join(f"'{word}'" for word in words)
    asked = (
        f"{script}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; COMP_LINE='{line}'; "
        f'COMP_POINT={len(line)}; compopt() {{ :; }}; _flanneld_py; printf "%s\\n" '
        '"${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("flanneld-py st", ["status"]),
        ("flanneld-py --etcd-pre", ["--etcd-prefix="]),
        ("flanneld-py run --healthz-p", ["--healthz-port="]),
        ("flanneld-py --iface=eth0 --ip-bl", ["--ip-blackhole-route"]),
        ("flanneld-py --cni-mode=", ["off", "direct"]),
        ("flanneld-py run --cni-mode=d", ["direct"]),
        ("flanneld-py status --js", ["--json"]),
        ("flanneld-py status --etcd", []),
        ("flanneld-py completion z", ["zsh"]),
        ("flanneld-py version --", ["--help"]),
    ],
)
def test_bash_offers_what_fits(line: str, offered: list[str]) -> None:
    assert bash_completes(SHELLS["bash"](flag_tables()), line) == offered


@pytest.mark.parametrize("shell", list(SHELLS))
def test_every_flag_and_command_is_known_to_every_shell(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([shell]) == 0
    script = capsys.readouterr().out
    for flag in AGENT_FLAGS:
        assert (f"-l {flag.name} " if shell == "fish" else f"--{flag.name}") in script
    for command in COMMANDS:
        assert command in script


def test_quotes_of_the_scripts_match(capsys: pytest.CaptureFixture[str]) -> None:
    """What a shell reads as one word per quoted text: bash can read zsh's and fish's quoting."""
    for shell in SHELLS:
        assert main([shell]) == 0
        for line in capsys.readouterr().out.splitlines():
            outside = line.split("#")[0] if line.startswith("#") else line
            assert outside.replace("'\\''", "").count("'") % 2 == 0, line


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "give one of bash, zsh, fish"),
        (["bsh"], "did you mean bash?"),
        (["a", "b"], "give one"),
    ],
)
def test_wrong_shells_are_one_line(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
