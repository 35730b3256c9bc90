"""The errors of the package `backends`.

    subnet.errors.NetworkConfigError
    ├── BackendNotYet       flannel has this backend, this release has not: wait for the config
    └── UnknownBackend      no backend of flannel has this name

Options of a backend are refused by NetworkConfigError itself, whose key is ``Backend.<option>``.
All of them mean the same for the agent: it waits for a config that it can use, and takes no lease.
"""

from __future__ import annotations

from subnet.errors import NetworkConfigError


class BackendNotYet(NetworkConfigError):
    """The network config asks for a backend of flannel that this release does not have.

    `backend` is its name, `supported` the names that work.
    """

    def __init__(self, *, backend: str, value: str, supported: tuple[str, ...]) -> None:
        self.backend = backend
        self.supported = supported
        super().__init__(
            key="Backend.Type",
            value=value,
            expected=f"this release has no {backend} backend yet: set Backend.Type to "
            f"{' or '.join(supported)}",
        )


class UnknownBackend(NetworkConfigError):
    """The network config names a backend that does not exist; `nearest` is what may be meant."""

    def __init__(self, *, value: str, nearest: str, supported: tuple[str, ...]) -> None:
        self.nearest = nearest
        self.supported = supported
        guess = f" (the nearest is {nearest})" if nearest else ""
        super().__init__(
            key="Backend.Type",
            value=value,
            expected=f"no backend has this name{guess}: set Backend.Type to "
            f"{' or '.join(supported)}",
        )
