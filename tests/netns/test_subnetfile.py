"""subnet.env on file systems that are full or read-only: the old content stays, the error helps."""

import json
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]

PROGRAM = """
import json, os, subprocess, sys
from pathlib import Path
from flanneld_py.subnetfile import SubnetFile, SubnetFileError

folder = Path(sys.argv[1])
file = SubnetFile(folder / "subnet.env")
mount = lambda *options: subprocess.run(
    ["mount", "-t", "tmpfs", "-o", ",".join(options), "none", folder], check=True
)
seen = []

def write(text):
    try:
        file.write(text)
        error = None
    except SubnetFileError as refused:
        error = [refused.errno, str(refused)]
    seen.append([error, file.path.read_text(), sorted(os.listdir(folder))])

mount("size=16k")
write("FLANNEL_MTU=1450\\n")
write("FLANNEL_MTU=1430\\n" * 3000)
mount("remount", "ro")
write("FLANNEL_MTU=1400\\n")
mount("remount", "rw")
seen.append(file.repair())
seen.append(file.path.read_text())
print(json.dumps(seen))
"""


def test_full_and_read_only_file_systems(tmp_path: Path) -> None:
    answer = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", PROGRAM, str(tmp_path)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    written, full, read_only, damage, repaired = json.loads(answer.stdout)
    old = "FLANNEL_MTU=1450\n"
    assert written == [None, old, ["subnet.env"]]
    for (error, content, names), number, part in (
        (full, 28, "No space left on device: free some space"),
        (read_only, 30, "Read-only file system: mount that file system writable"),
    ):
        assert error[0] == number
        assert str(tmp_path / "subnet.env") in error[1]
        assert part in error[1]
        assert content == old
        assert names == ["subnet.env"]
    assert damage == "its content was altered"
    assert repaired == "FLANNEL_MTU=1400\n"
