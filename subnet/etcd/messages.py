"""The messages of etcd's API: classes made from the descriptors that the package etcd3 carries.

etcd3 itself is never imported: its client and its generated modules do not work with a current
protobuf, but the serialized descriptors inside of them do, and in protobuf's C implementation they
decode five times faster. They are those of etcd 3.3; two fields that later servers know are added
here. Makes no call and opens no connection.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FILES = ("kv", "auth", "rpc")  # in the order of their dependencies
_SERIALIZED = re.compile(
    r"^  serialized_pb=(?:_b\()?(?P<literal>b?(['\"]).*\2)\)?,?$", re.MULTILINE
)


class DescriptorsMissing(ImportError):
    """The package etcd3 is absent or is not the version whose descriptors we read."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}: install etcd3==0.12.0 into this environment")


def _folder() -> Path:
    spec = importlib.util.find_spec("etcd3")
    if spec is None or not spec.submodule_search_locations:
        raise DescriptorsMissing("package etcd3 is not installed")
    return Path(spec.submodule_search_locations[0]) / "etcdrpc"


def read_descriptor(path: Path) -> descriptor_pb2.FileDescriptorProto:
    """Read the `serialized_pb` argument out of a generated module, without running the module."""
    try:
        source = path.read_text(encoding="latin1")
    except OSError as error:
        raise DescriptorsMissing(f"cannot read {path}: {error.strerror}") from error
    # Only this one line: parsing the whole module costs 30 ms and 11 MiB at each start.
    found = _SERIALIZED.search(source)
    if found is None:
        raise DescriptorsMissing(f"{path} holds no serialized descriptor")
    try:
        literal = ast.literal_eval(found["literal"])
    except (SyntaxError, ValueError) as error:
        raise DescriptorsMissing(f"{path} holds no readable descriptor") from error
    # `_b('...')` of the generator encodes its text as latin1.
    data = literal.encode("latin1") if isinstance(literal, str) else literal
    return descriptor_pb2.FileDescriptorProto.FromString(data)


def _add_fragments(rpc: descriptor_pb2.FileDescriptorProto) -> None:
    """Add the field `fragment` (etcd 3.4, rpc.proto) to a watch's request and response.

    With it the server splits a large watch response instead of sending it whole.
    """
    numbers = {"WatchCreateRequest": 8, "WatchResponse": 7}
    for message in rpc.message_type:
        number = numbers.get(message.name)
        if number is not None and all(field.number != number for field in message.field):
            message.field.add(
                name="fragment",
                number=number,
                type=descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
                label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
            )


def _pool() -> descriptor_pool.DescriptorPool:
    # A pool of our own: another copy of etcd's messages in this process cannot clash with it.
    pool = descriptor_pool.DescriptorPool()
    folder = _folder()
    for name in _FILES:
        descriptor = read_descriptor(folder / f"{name}_pb2.py")
        if name == "rpc":
            _add_fragments(descriptor)
        pool.Add(descriptor)
    return pool


_POOL = _pool()


def _message(name: str) -> Any:
    """Make the class of a message. It is built at run time, so its fields have no static types."""
    descriptor = _POOL.FindMessageTypeByName(f"etcdserverpb.{name}")
    return message_factory.GetMessageClass(descriptor)


RangeRequest = _message("RangeRequest")
RangeResponse = _message("RangeResponse")
PutRequest = _message("PutRequest")
PutResponse = _message("PutResponse")
DeleteRangeRequest = _message("DeleteRangeRequest")
RequestOp = _message("RequestOp")
Compare = _message("Compare")
TxnRequest = _message("TxnRequest")
TxnResponse = _message("TxnResponse")
WatchRequest = _message("WatchRequest")
WatchCreateRequest = _message("WatchCreateRequest")
WatchResponse = _message("WatchResponse")
LeaseGrantRequest = _message("LeaseGrantRequest")
LeaseGrantResponse = _message("LeaseGrantResponse")
LeaseRevokeRequest = _message("LeaseRevokeRequest")
LeaseRevokeResponse = _message("LeaseRevokeResponse")
LeaseTimeToLiveRequest = _message("LeaseTimeToLiveRequest")
LeaseTimeToLiveResponse = _message("LeaseTimeToLiveResponse")
AuthenticateRequest = _message("AuthenticateRequest")
AuthenticateResponse = _message("AuthenticateResponse")

EQUAL = Compare.EQUAL
LESS = Compare.LESS
CREATE = Compare.CREATE
MOD = Compare.MOD
DELETE_EVENT = 1
"""``mvccpb.Event.DELETE``."""
