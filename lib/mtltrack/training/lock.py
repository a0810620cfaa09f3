"""One run at a time for a configuration and a folder of output: two would overwrite each other's files."""

from __future__ import annotations

import errno
import json
import os
import socket
from pathlib import Path
from time import strftime
from typing import IO

from mtltrack.core.errors import TrainingError

_HELD = (errno.EACCES, errno.EAGAIN)


class RunLock:
    """Holds a run for this process, from its creation to `release`.

    The lock is the operating system's, on a file that says who holds it: it ends with the process, also with
    one that is killed, and the file that is left behind holds nobody off. It is a lock of the process and not
    of the open file, since loader processes inherit open files and may outlive a killed parent by seconds.

    Args:
        path: file that says who holds the run; its folder is made if need be.
        run: what the run is called in messages.

    Attributes:
        note: why the run isn't locked, where the system can't do it (Windows, and file systems without
            locks, such as some mounts of NFS); else "".

    Raises:
        TrainingError: another process holds it, which is named; or the file can't be opened.
    """

    def __init__(self, path: Path, run: str) -> None:
        self.note = ""
        self._file: IO[str] | None = None
        try:
            import fcntl
        except ImportError:  # Windows
            self.note = f"{run} isn't locked: this system has no fcntl. Don't start it a second time."
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise TrainingError(
                f"{run} can't be locked: {path} can't be written ({error.strerror or error}). If it is "
                "another user's, give another --save_dir, or ask for leave to write there."
            ) from error
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(file, path)
            file.close()
            if error.errno in _HELD:
                raise TrainingError(
                    f"{run} is being trained: {holder}. Two runs would overwrite each other's checkpoints. "
                    "Wait until it ends, end it, or give another --save_dir or --config."
                ) from error
            reason = error.strerror or str(error)
            self.note = f"{run} can't be locked ({reason}). Don't start it a second time."
            return
        self._file = file
        file.seek(0)
        file.truncate()
        who = {"process": os.getpid(), "host": socket.gethostname(), "start": strftime("%Y-%m-%d %H:%M:%S")}
        json.dump(who, file)
        file.flush()

    def release(self) -> None:
        """Let others have the run; a second call does nothing."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _holder(file: IO[str], path: Path) -> str:
    """Return who holds a lock by what the file says; it may be read while it is being written."""
    file.seek(0)
    try:
        who = json.loads(file.read())
        return f"by process {who['process']} on {who['host']} since {who['start']}"
    except (ValueError, KeyError, TypeError):
        return f"another process holds {path}"
