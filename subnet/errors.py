"""The errors of the package `subnet`.

    SubnetError
    ├── NetworkConfigError      the network config cannot be used (names key, value, remedy)
    ├── CodecError              a key or a value in the store is no lease (names the reason)
    ├── OutOfSubnetsError       no free subnet is left in a family
    └── StoreError              the store did not do what was asked
        ├── StoreUnavailable    no answer, or not now: try again
        ├── StoreDenied         wrong or missing credentials or rights: needs a person
        ├── StoreConfigMissing  the network config is not in the store yet
        └── StoreSettingsError  endpoints or TLS material are unusable: the user typed it

Every error carries fields and builds its message from them. Libraries raise, only the command
line exits.
"""

from __future__ import annotations


class SubnetError(Exception):
    """Base of all errors of this package."""


class NetworkConfigError(SubnetError):
    """The network config is unusable.

    `key` is the JSON key as the documentation spells it (``Backend.VNI`` for nested ones), `value`
    the offending value as text, `expected` says what would be valid.
    """

    def __init__(self, *, key: str, value: str, expected: str) -> None:
        self.key = key
        self.value = value
        self.expected = expected
        super().__init__(f"network config: {key} = {value}: {expected}")


class CodecError(SubnetError):
    """A record of the store is no lease; `subject` is what was read, `reason` why it is refused."""

    def __init__(self, *, subject: str, reason: str) -> None:
        self.subject = subject
        self.reason = reason
        super().__init__(f"{subject}: {reason}")


class OutOfSubnetsError(SubnetError):
    """Every subnet of one family is taken."""

    def __init__(self, *, network: str, subnet_len: int, taken: int) -> None:
        self.network = network
        self.subnet_len = subnet_len
        self.taken = taken
        super().__init__(
            f"no free /{subnet_len} is left in {network} ({taken} leases): enlarge the network, "
            "raise SubnetLen, or remove leases of nodes that are gone"
        )


class StoreError(SubnetError):
    """The store did not do what was asked; `source` names the store, `reason` says why."""

    def __init__(self, *, source: str, reason: str, remedy: str = "") -> None:
        self.source = source
        self.reason = reason
        self.remedy = remedy
        super().__init__(f"{source}: {reason}" + (f": {remedy}" if remedy else ""))


class StoreUnavailable(StoreError):
    """No answer within the deadline, or the store cannot serve now. Trying again may help."""


class StoreDenied(StoreError):
    """Credentials or rights are wrong or missing. A person has to act; we keep asking slowly."""


class StoreConfigMissing(StoreError):
    """The store answers, but holds no network config yet."""


class StoreSettingsError(StoreError):
    """Endpoints, TLS files or credentials as given cannot be used at all."""
