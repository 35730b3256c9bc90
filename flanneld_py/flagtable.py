"""The agent's flags: flannel's (flannel-compat 1.1) with their defaults, and our own.

This table is the one place that names a flag: parsing, environment twins, help, completion and the
configuration reference follow from it.
"""

from __future__ import annotations

from collections.abc import Mapping

from flanneld_py.flags import Flag
from flanneld_py.flagtable_network import NETWORK_FLAGS
from flanneld_py.flagtable_process import KUBERNETES, PROCESS_FLAGS

COMMANDS: Mapping[str, str] = {
    "run": "the agent (also when no command is given)",
    "status": "what a running agent has done, does, and cannot do",
    "demo": "three nodes with pods on this machine, in namespaces that vanish",
    "cni-install": "put the CNI plugin and its conflist in place, for hosts without direct mode",
    "completion": "a script that completes commands and flags in bash, zsh or fish",
    "version": "the version, to standard output",
    "help": "this text, or that of a command",
}
"""Names of the commands and what each one is, for help."""

NO_KUBERNETES = (
    "the Kubernetes store does not exist yet: leave it out and give --etcd-endpoints, "
    "or stay with flannel on this cluster for now"
)

AGENT_FLAGS: tuple[Flag, ...] = (*NETWORK_FLAGS, *PROCESS_FLAGS)
"""All flags of `flanneld-py run`, in the order of help."""

KUBERNETES_FLAGS: tuple[Flag, ...] = tuple(
    flag for flag in AGENT_FLAGS if flag.section == KUBERNETES
)
"""Flags that ask for the Kubernetes store."""

RUN_DIR: Flag = next(flag for flag in AGENT_FLAGS if flag.name == "run-dir")
"""Shared by the commands that talk to a running agent."""
