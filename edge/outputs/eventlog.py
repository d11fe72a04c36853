"""The event log on disk: newline-delimited JSON that survives loss of power, and stays bounded.

Every record is one write, and on the disk before the next one begins: what a power cut can tear is
the end of the file, and that is cut off at the next start. Events are rare, so that the card does
not suffer.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from edge.errors import EdgelidError
from edge.outputs.stdout import json_text, now
from edge.system.regular import other_kind

logger = logging.getLogger(__name__)

TAIL_BYTES = 1 << 16  # of the end of a file, where its last record must begin
KINDS = {"change", "segment", "gap", "level", "window", "recording", "start", "lost"}
# How a log begins. Other JSON may begin with a type, too, as maps do.
RECORD_STARTS = tuple(f'{{"type": "{kind}"'.encode() for kind in KINDS)
# What a file system without room says; everything else at the start is a wrong setting.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class EventLog:
    """Appends records to a file, which is renamed when full: ``PATH.1`` is the newest of these.

    A disk that cannot take a record is no reason to stop: the record is lost and counted, and the
    first one that finds room again is preceded by a record ``lost`` that tells how many were.

    Parameters
    ----------
    path : Path
        Its folder must exist.
    file_bytes : int
        Size at which a new file begins.
    files : int
        The most files there are, `path` among them: at least 2.

    Attributes
    ----------
    lost : int
        Records that could not be written, of all that came.

    Raises
    ------
    EdgelidError
        If the file cannot be used, is no such log, or another process writes it.
    """

    def __init__(self, path: Path, file_bytes: int, files: int) -> None:
        self._path = path
        self._file_bytes = file_bytes
        self._files = files
        self._descriptor: int | None = None
        self._size_bytes = 0  # of the complete records
        self.lost = 0
        self._untold = 0  # of these, what no record tells yet
        self._lost_since = ""
        self._failing = False
        try:
            self._open()
            self._prune()
        except OSError as error:
            self.close()
            if error.errno not in _NO_ROOM:
                raise _unwritable(path, error) from error
        except EdgelidError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file; a second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def bound(self, file_bytes: int, files: int) -> None:
        """Keep to other bounds from now on."""
        self._file_bytes, self._files = file_bytes, files
        try:
            self._prune()
        except OSError as error:
            logger.warning("old event logs cannot be deleted: %s", error.strerror)

    def miss(self, records: int) -> None:
        """Count records that were lost on their way here."""
        if records and not self._untold:
            self._lost_since = now()
        self.lost += records
        self._untold += records

    def record(self, record: dict[str, Any]) -> None:
        """Append a record; it is on the disk when this returns, or counted as lost."""
        try:
            self._reopen_if_gone()
            if self._untold:
                self._tell_lost()
            self._append(record)
        except (OSError, EdgelidError) as error:
            self.miss(1)
            if not self._failing:
                self._failing = True
                logger.warning(
                    "the event log %r cannot be written (%s): events are lost until it can",
                    str(self._path),
                    getattr(error, "strerror", None) or error,
                )
            self.close()  # opening it again cuts off whatever could not be taken back

    def _tell_lost(self) -> None:
        lost = {"type": "lost", "events": self._untold, "since": self._lost_since, "time": now()}
        self._append(lost)
        if self._failing:
            self._failing = False
            logger.warning(
                "the event log %r is written again; %d event(s) were lost",
                str(self._path),
                self._untold,
            )
        self._untold = 0

    def _append(self, record: dict[str, Any]) -> None:
        line = (json_text(record) + "\n").encode()
        descriptor = self._opened()
        if self._size_bytes and self._size_bytes + len(line) > self._file_bytes:
            self._rotate()
            descriptor = self._opened()
        try:
            written_bytes = os.write(descriptor, line)
            if written_bytes < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fdatasync(descriptor)
        except OSError:
            # Whatever was written of it must not become the beginning of the next one.
            os.ftruncate(descriptor, self._size_bytes)
            raise
        self._size_bytes += len(line)

    def _opened(self) -> int:
        if self._descriptor is None:
            self._open()
        assert self._descriptor is not None
        return self._descriptor

    def _reopen_if_gone(self) -> None:
        """Begin a new file where someone has removed or renamed the old one."""
        if self._descriptor is None:
            return
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._descriptor), self._path.stat()):
                return
        self.close()

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        # What is spoken in a home is nobody else's business.
        self._descriptor = os.open(self._path, flags, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise EdgelidError(
                f"the event log {str(self._path)!r} is being written by another process: end it, "
                "or choose another file."
            ) from error
        _sync_folder(self._path)
        self._size_bytes = _complete_bytes(self._descriptor, self._path)
        os.ftruncate(self._descriptor, self._size_bytes)

    def _rotate(self) -> None:
        """Rename the file, and those before it as far as they are in the way.

        Each step is atomic, and after each the records that are left are in order.
        """
        names = [self._numbered(number) for number in range(1, self._files)]
        free = next((i for i, name in enumerate(names) if not name.exists()), len(names) - 1)
        for number in range(free, 0, -1):
            os.replace(names[number - 1], names[number])
        os.replace(self._path, names[0])
        self.close()
        self._prune()
        self._open()

    def _prune(self) -> None:
        """Delete what is beyond the bound, as after it was lowered."""
        pattern = _numbered_name(self._path)
        numbers = sorted(
            int(match[1])
            for entry in self._path.parent.iterdir()
            if (match := pattern.fullmatch(entry.name)) is not None
        )
        room_bytes = self._file_bytes * (self._files - 1)  # and one that is being written
        for number in numbers:
            name = self._numbered(number)
            room_bytes -= name.stat().st_size
            if room_bytes < 0 or number >= self._files:
                name.unlink()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def check_log(path: Path) -> None:
    """Find out whether a log can be written there, without writing: it may be in use.

    Raises
    ------
    EdgelidError
        If it cannot.
    """
    try:
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        _complete_bytes(descriptor, path)
    finally:
        os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> EdgelidError:
    return EdgelidError(
        f"the event log {str(path)!r} cannot be written ({error.strerror}): check its folder and "
        "permissions."
    )


def read_records(path: Path, since: float = 0.0) -> Iterator[dict[str, Any]]:
    """Records of a log, the oldest first; what is torn or unreadable of it is left out.

    Nothing is needed of it but that it can be read, also while another process writes it.

    Parameters
    ----------
    path : Path
    since : float
        Seconds since 1970, UTC; files that have not been written since then are passed over.
    """
    names = {0: path}
    with contextlib.suppress(OSError):
        for entry in path.parent.iterdir():
            if (match := _numbered_name(path).fullmatch(entry.name)) is not None:
                names[int(match[1])] = entry
    for _, name in sorted(names.items(), reverse=True):
        with contextlib.suppress(OSError):
            status = name.stat()
            # A pipe could keep one waiting for ever.
            if other_kind(status) is not None or status.st_mtime < since:
                continue
            with name.open("rb") as file:
                for line in file:
                    with contextlib.suppress(ValueError, RecursionError):
                        record = json.loads(line)
                        if isinstance(record, dict):
                            yield record


def _numbered_name(path: Path) -> re.Pattern[str]:
    """What matches the names of the files that were full."""
    return re.compile(re.escape(path.name) + r"\.([1-9]\d*)")


def _complete_bytes(descriptor: int, path: Path) -> int:
    """Size up to the end of the last complete record.

    Raises
    ------
    EdgelidError
        If the file is something else than an event log.
    """
    status = os.fstat(descriptor)
    if (kind := other_kind(status)) is not None:
        raise EdgelidError(f"the event log {str(path)!r} is {kind}: give a file.")
    size_bytes = status.st_size
    start = os.pread(descriptor, max(map(len, RECORD_STARTS)), 0)
    if not any(_may_be(start, wanted) for wanted in RECORD_STARTS):
        raise EdgelidError(f"{str(path)!r} is no event log: choose another file, or move it away.")
    tail_start = max(0, size_bytes - TAIL_BYTES)
    tail = os.pread(descriptor, TAIL_BYTES, tail_start)
    end = tail.rfind(b"\n") + 1
    last_start = tail.rfind(b"\n", 0, max(0, end - 1)) + 1
    if end and not _is_record(tail[last_start:end]):
        end = last_start
    if not end and tail_start:
        raise EdgelidError(f"{str(path)!r} is no event log: choose another file, or move it away.")
    return tail_start + end


def _may_be(start: bytes, wanted: bytes) -> bool:
    # After a power cut, a file system may have the length of a record and zeros for its bytes.
    return all(byte in (0, other) for byte, other in zip(start, wanted, strict=False))


def _is_record(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):  # the latter of what is nested too deeply
        return False


def _sync_folder(path: Path) -> None:
    """Have the names in its folder on the disk, too."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
