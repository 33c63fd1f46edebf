"""The configuration of a warm server. It may contain passwords: it is passed in an open file that has no name."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from typing import IO

SOCKET = "socket"
LOAD_SECONDS = 100
"""How long a server may take to load its code location."""
REFUSED = 3
"""The exit code of a server that cannot take runs and has told the waiting launches why."""


@dataclass(frozen=True)
class ServerConfig:
    """What a server needs to load its code location and to supervise its runs.

    Dagster's objects are in Dagster's own serialization. The instance's may contain the password of a database.
    """

    instance_ref: str
    repository_origin: str
    job_name: str | None
    """The job that is probably launched first."""
    preload: tuple[str, ...]
    """Further modules to import."""
    max_runs: int
    stop_seconds: float
    """How long a run may take to end after it, or the server, was asked to end."""
    linger_seconds: float
    """How long a run's process may stay after its run has ended."""
    stalled_seconds: float
    """After how long without a free slot the server reports a stall."""
    audit_seconds: float
    """How often the server asks Dagster whether runs that still have a process have ended."""

    def open_file(self) -> IO[bytes]:
        """A temporary file that contains it. It has no name: it is gone with the processes that have it open."""
        file = tempfile.TemporaryFile(prefix="reportqueue-")  # noqa: SIM115
        file.write(json.dumps(asdict(self)).encode())
        file.flush()
        return file

    @classmethod
    def read(cls, descriptor: int) -> ServerConfig:
        """Load it from the file with this descriptor; the file stays open, and may be read again."""
        size = os.fstat(descriptor).st_size
        return cls(**json.loads(os.pread(descriptor, size, 0)))
