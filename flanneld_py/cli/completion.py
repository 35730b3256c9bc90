"""`flanneld-py completion bash|zsh|fish`: a script that completes commands, flags and choices.

Made from the tables of flags, so that it never knows less than the parser. Prints, and installs
nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from flanneld_py.flags import Flag, Kind, nearest
from flanneld_py.flagtable import AGENT_FLAGS, COMMANDS
from flanneld_py.log import escape

HELP = """\
flanneld-py completion: a script that completes commands and flags while you type.

Examples:
  flanneld-py completion bash > /etc/bash_completion.d/flanneld-py
  flanneld-py completion zsh > "${fpath[1]}/_flanneld-py"
  flanneld-py completion fish > ~/.config/fish/completions/flanneld-py.fish

Or for this shell alone:
  source <(flanneld-py completion bash)
"""

Tables = Mapping[str, Sequence[Flag]]
"""The flags of each command."""

_PATHS = ("FILE", "DIR")


def main(argv: Sequence[str]) -> int:
    """Print the script for the shell that `argv` names."""
    if list(argv) in (["-h"], ["--help"], ["-help"]):
        print(HELP, end="")
        return 0
    if len(argv) != 1 or argv[0] not in SHELLS:
        given = f"{argv[0]!r}" if argv else "no shell"
        near = nearest(argv[0], SHELLS) if argv else ""
        remedy = f"did you mean {near}?" if near else f"give one of {', '.join(SHELLS)}"
        print(f"flanneld-py completion: {escape(given)}: {remedy}", file=sys.stderr)
        return 2
    print(SHELLS[argv[0]](flag_tables()), end="")
    return 0


def flag_tables() -> Tables:
    """The flags of every command that has some of its own."""
    from flanneld_py.cli.cni_install import CNI_INSTALL_FLAGS
    from flanneld_py.cli.demo import FLAGS as DEMO_FLAGS
    from flanneld_py.cli.status import STATUS_FLAGS

    tables: dict[str, Sequence[Flag]] = dict.fromkeys(COMMANDS, ())
    return tables | {
        "run": AGENT_FLAGS,
        "status": STATUS_FLAGS,
        "cni-install": CNI_INSTALL_FLAGS,
        "demo": DEMO_FLAGS,
    }


def bash(tables: Tables) -> str:
    """For bash, without the help of the bash-completion package."""
    cases = "".join(
        f"        {command}) flags={_quoted(' '.join(_typed(flag) for flag in flags))} ;;\n"
        for command, flags in tables.items()
    )
    values = "".join(
        f"        --{flag.name}=*) COMPREPLY=($(compgen -W {_quoted(' '.join(flag.choices))} -- "
        '"${word#*=}")); return ;;\n'
        for flag in _with_choices(tables)
    )
    return f"""\
# bash completion of flanneld-py
_flanneld_py() {{
    # The words as they were typed: bash itself would cut them at '='.
    local line=${{COMP_LINE:0:COMP_POINT}} word command=run flags
    word=${{line##*[[:space:]]}}
    if [[ ${{COMP_WORDS[1]}} == [a-z]* ]]; then command=${{COMP_WORDS[1]}}; fi
    if [[ $COMP_CWORD -eq 1 && $word != -* ]]; then
        COMPREPLY=($(compgen -W {_quoted(" ".join(COMMANDS))} -- "$word"))
        return
    fi
    case $command in
        completion) COMPREPLY=($(compgen -W {_quoted(" ".join(SHELLS))} -- "$word")); return ;;
        help) COMPREPLY=($(compgen -W {_quoted(" ".join(COMMANDS))} -- "$word")); return ;;
    esac
    case $word in
{values}        *=*) COMPREPLY=($(compgen -f -- "${{word#*=}}")); return ;;
    esac
    case $command in
{cases}        *) flags= ;;
    esac
    COMPREPLY=($(compgen -W "$flags --help" -- "$word"))
    if [[ ${{COMPREPLY[0]}} == *= ]]; then compopt -o nospace; fi
}}
complete -F _flanneld_py flanneld-py
"""


def zsh(tables: Tables) -> str:
    """For zsh's completion system."""
    commands = "".join(f"    {_quoted(f'{name}:{text}')}\n" for name, text in COMMANDS.items())
    cases = "".join(
        f"  {command})\n    _arguments \\\n{''.join(_zsh_flag(flag) for flag in flags)}"
        "      '--help[explain]'\n    ;;\n"
        for command, flags in tables.items()
        if flags
    )
    return f"""\
#compdef flanneld-py
# zsh completion of flanneld-py
_flanneld_py() {{
  local command=run
  local -a commands=(
{commands}  )
  if [[ ${{words[2]}} == [a-z]* ]]; then command=${{words[2]}}; fi
  if (( CURRENT == 2 )) && [[ ${{words[2]}} != -* ]]; then
    _describe command commands
    return
  fi
  case $command in
{cases}  completion) _values shell {" ".join(SHELLS)} ;;
  help) _describe command commands ;;
  esac
}}
compdef _flanneld_py flanneld-py
if [[ $funcstack[1] == _flanneld_py ]]; then _flanneld_py "$@"; fi
"""


def fish(tables: Tables) -> str:
    """For fish."""
    lines = ["# fish completion of flanneld-py", "complete -c flanneld-py -f"]
    none_yet = f"not __fish_seen_subcommand_from {' '.join(COMMANDS)}"
    for name, text in COMMANDS.items():
        lines.append(f"complete -c flanneld-py -n {_quoted(none_yet)} -a {name} -d {_quoted(text)}")
    for command, flags in tables.items():
        seen = f"__fish_seen_subcommand_from {command}"
        condition = f"{seen}; or {none_yet}" if command == "run" else seen
        lines += [
            f"complete -c flanneld-py -n {_quoted(condition)} {_fish(flag)}" for flag in flags
        ]
    shells = _quoted("__fish_seen_subcommand_from completion")
    lines.append(f"complete -c flanneld-py -n {shells} -a {_quoted(' '.join(SHELLS))}")
    return "\n".join(lines) + "\n"


SHELLS: Mapping[str, Callable[[Tables], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
"""By name: what makes the script of a shell."""


def _typed(flag: Flag) -> str:
    """As it is typed: up to the equals sign if a value has to follow."""
    return f"--{flag.name}" if flag.kind is Kind.BOOLEAN else f"--{flag.name}="


def _with_choices(tables: Tables) -> list[Flag]:
    found = {flag.name: flag for flags in tables.values() for flag in flags if flag.choices}
    return list(found.values())


def _zsh_flag(flag: Flag) -> str:
    if flag.kind is Kind.BOOLEAN:
        return f"      {_quoted(f'--{flag.name}[{_short(flag)}]')} \\\n"
    values = f"({' '.join(flag.choices)})" if flag.choices else ""
    if flag.metavar in _PATHS:
        values = "_files"
    again = "*" if flag.kind is Kind.TEXTS else ""
    value = f"{again}--{flag.name}=[{_short(flag)}]:{flag.name}:{values}"
    return f"      {_quoted(value)} \\\n"


def _fish(flag: Flag) -> str:
    text = f"-l {flag.name} -d {_quoted(_short(flag))}"
    if flag.kind is Kind.BOOLEAN:
        return text
    if flag.choices:
        return f"{text} -x -a {_quoted(' '.join(flag.choices))}"
    return f"{text} -r -F" if flag.metavar in _PATHS else f"{text} -x"


def _short(flag: Flag) -> str:
    """The first sentence, without what the shells' notations would take for their own."""
    text = flag.help.partition(". ")[0].rstrip(".")
    return "".join(letter for letter in text if letter not in "[]:`\\")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
