from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from subnet.etcd import messages as m
from subnet.etcd.messages import DescriptorsMissing, read_descriptor


def test_messages_are_what_etcd_speaks() -> None:
    request = m.RangeRequest(key=b"a", range_end=b"b", limit=3, serializable=True)
    assert request.SerializeToString() == b"\n\x01a\x12\x01b\x18\x03\x38\x01"


def test_a_watch_can_ask_for_fragments() -> None:
    request = m.WatchCreateRequest(key=b"x", fragment=True)
    assert request.SerializeToString() == b"\n\x01x\x40\x01"
    assert m.WatchResponse.FromString(b"\x38\x01").fragment is True


def test_a_compare_over_a_range_has_its_number_of_etcd_3_3() -> None:
    assert m.Compare(range_end=b"z").SerializeToString() == b"\x82\x04\x01z"


@pytest.mark.parametrize("text", ["", "DESCRIPTOR = f(serialized_pb=nothing)"])
def test_a_file_without_descriptor_is_named_with_the_remedy(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kv_pb2.py"
    path.write_text(text)
    with pytest.raises(DescriptorsMissing, match=r"kv_pb2.py.*etcd3==0.12.0"):
        read_descriptor(path)
    with pytest.raises(DescriptorsMissing, match="absent_pb2"):
        read_descriptor(tmp_path / "absent_pb2.py")


def test_etcd3_itself_is_never_imported_and_grpc_only_with_this_package() -> None:
    program = (
        "import sys, subnet.store, subnet.codec\n"
        "assert not {'grpc', 'google.protobuf'} & set(sys.modules)\n"
        "import subnet.etcd\n"
        "assert 'grpc' in sys.modules\n"
        "assert 'etcd3' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)
