"""SettingsBefore: the values that kernel settings had before the agent changed them.

One small JSON file in `--state-dir`, replaced as a whole, so that whoever takes the agent off a
host knows what to put back. The first value that was seen wins over all later starts: later ones
may be our own. It reads and sets no setting.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

log = logging.getLogger(__name__)

FILE_NAME = "settings-before.json"
VERSION = 1
_MAX_BYTES = 1 << 20


class SettingsBeforeError(Exception):
    """The file could not be read or written; `path` is the file, `reason` says why."""

    def __init__(self, *, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(
            f"{path}: {reason}: what kernel settings were before is not remembered; make "
            f"{path.parent} a writable folder on a local disk, or choose another one with "
            "--state-dir"
        )


class SettingsBefore:
    """The file of one node."""

    def __init__(self, folder: Path, *, machine_id: str) -> None:
        self.path = folder / FILE_NAME
        """The file that holds it all."""
        self._machine_id = machine_id
        self._saved: dict[str, str] | None = None
        self._failed: dict[str, str] | None = None

    @property
    def values(self) -> Mapping[str, str]:
        """What is on disk: values by the setting's name, as in `elements.Sysctl`.

        Raises SettingsBeforeError.
        """
        if self._saved is None:
            try:
                self._saved = self._load()
            except OSError as error:
                raise self._error(error) from error
        return self._saved

    def add(self, before: Mapping[str, str]) -> None:
        """Remember those that are not remembered yet. Raises SettingsBeforeError."""
        if not before or before == self._failed:
            return  # also a full disk is not asked again with every event
        self._failed = dict(before)
        known = self.values
        if not before.keys() <= known.keys():
            after = {**before, **known}
            try:
                self._write(after)
            except OSError as error:
                raise self._error(error) from error
            self._saved = after
        self._failed = None

    def _error(self, error: OSError) -> SettingsBeforeError:
        return SettingsBeforeError(path=self.path, reason=error.strerror or str(error))

    def _load(self) -> dict[str, str]:
        try:
            with self.path.open("rb") as file:
                machine_id, values = _decode(file.read(_MAX_BYTES + 1))
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            self._set_aside("damaged", f"it is damaged ({error!r:.200})")
            return {}
        if machine_id != self._machine_id:
            self._set_aside("foreign", f"it belongs to the machine {machine_id or 'without an id'}")
            return {}
        return values

    def _set_aside(self, word: str, reason: str) -> None:
        aside = self.path.with_name(f"{FILE_NAME}.{word}")
        log.warning(
            "earlier settings not used path=%s reason=%s set_aside=%s", self.path, reason, aside
        )
        with contextlib.suppress(OSError):
            self.path.replace(aside)

    def _write(self, values: Mapping[str, str]) -> None:
        document = {"version": VERSION, "machine_id": self._machine_id, "settings": values}
        folder, temporary = self.path.parent, self.path.with_name(f".{FILE_NAME}.{os.getpid()}")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(json.dumps(document, indent=1, sort_keys=True).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _decode(data: bytes) -> tuple[str, dict[str, str]]:
    if len(data) > _MAX_BYTES:
        raise ValueError(f"more than {_MAX_BYTES} bytes")
    document = json.loads(data)
    if document["version"] != VERSION:
        raise ValueError(f"version is {document['version']!r:.40}, not {VERSION}")
    machine_id, values = document["machine_id"], document["settings"]
    if not isinstance(machine_id, str) or not isinstance(values, dict):
        raise TypeError("machine_id or settings is of the wrong type")
    if not all(isinstance(value, str) for value in values.values()):
        raise TypeError("a value is no text")
    return machine_id, values
