"""The etcd store, and the only importer of gRPC and protobuf: import it only when etcd is used.

Its public names are here; everything else in the package is its own business.
"""

from __future__ import annotations

import logging
import os

# gRPC reads these when it is loaded: its C core writes to stderr by itself, and its fork handlers
# would halt its threads whenever the agent starts a program.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

from subnet.etcd.settings import DEFAULT_ENDPOINTS, DEFAULT_PREFIX, EtcdSettings
from subnet.etcd.store import EtcdStore

__all__ = ["DEFAULT_ENDPOINTS", "DEFAULT_PREFIX", "EtcdSettings", "EtcdStore"]

# It notes every call at level DEBUG.
logging.getLogger("grpc").setLevel(logging.WARNING)
