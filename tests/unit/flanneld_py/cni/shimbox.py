"""A folder in which the shim runs as a runtime would start it, with delegates made of shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHIM = Path(__file__).resolve().parents[4] / "flanneld_py/cni/shim.py"
ENV = (
    "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\n"
    "FLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n"
)
RESULT = '{"cniVersion":"1.0.0","ips":[{"address":"10.1.17.2/24"}]}'
CONTAINER = "ctr1"
_DELEGATE = """\
#!/bin/sh
cat > "{folder}/$CNI_COMMAND.$CNI_CONTAINERID.$CNI_IFNAME.json"
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_NETNS" >> "{folder}/calls"
{body}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the runtime sees of one call."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.stdout)
        return found

    @property
    def code(self) -> int:
        """The code of an error, which must be one line and come with exit status 1."""
        assert self.status == 1, self
        assert "\n" not in self.json["msg"]
        return int(self.json["code"])

    @property
    def msg(self) -> str:
        assert self.status == 1, self
        return str(self.json["msg"])


class ShimBox:
    """subnet.env, state folder, plugin folder and agent folder of a host."""

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        self.folder = folder
        self.python = python
        self.env_file = folder / "subnet.env"
        self.data_dir = folder / "data"
        self.bin = folder / "bin"
        self.run_dir = folder / "run"
        self.bin.mkdir()
        self.run_dir.mkdir()
        self.env_file.write_text(ENV)
        self.delegate("bridge", f"[ $CNI_COMMAND != ADD ] || echo '{RESULT}'")

    def delegate(self, name: str, body: str) -> Path:
        """Make a plugin that records what it is given, and then does `body`."""
        plugin = self.bin / name
        plugin.write_text(_DELEGATE.format(folder=self.folder, body=body))
        plugin.chmod(0o755)
        return plugin

    def conf(self, **more: Any) -> dict[str, Any]:
        """A network configuration with the folders of this box."""
        return {
            "cniVersion": "1.0.0",
            "name": "cbr0",
            "type": "flannel",
            "subnetFile": str(self.env_file),
            "dataDir": str(self.data_dir),
            "runDir": str(self.run_dir),
            "waitSeconds": 0,
            **more,
        }

    def call(
        self,
        command: str,
        conf: dict[str, Any] | bytes | None = None,
        *,
        within: float = 20,
        **environment: Any,
    ) -> Answer:
        """Run the shim once; an environment variable of None is left out."""
        data = conf if isinstance(conf, bytes) else json.dumps(conf or self.conf()).encode()
        given: dict[str, str | None] = {
            "PATH": os.environ["PATH"],
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": CONTAINER,
            "CNI_NETNS": "/run/netns/pod",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(self.bin),
            **environment,
        }
        done = subprocess.run(
            [self.python, "-IS", str(SHIM)],
            input=data,
            capture_output=True,
            check=False,
            timeout=within,
            env={name: value for name, value in given.items() if value is not None},
        )
        return Answer(
            status=done.returncode, stdout=done.stdout.decode(), stderr=done.stderr.decode()
        )

    def states(self) -> dict[str, str]:
        """The state files, by name."""
        if not self.data_dir.exists():
            return {}
        return {path.name: path.read_text() for path in self.data_dir.iterdir()}

    def given(self, command: str, container: str = CONTAINER, interface: str = "eth0") -> Any:
        """What a delegate got on standard input."""
        return json.loads((self.folder / f"{command}.{container}.{interface}.json").read_text())

    def calls(self) -> list[str]:
        """Command, container, interface and namespace of every call of a delegate."""
        file = self.folder / "calls"
        return [line.strip() for line in file.read_text().splitlines()] if file.exists() else []
