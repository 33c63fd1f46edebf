"""The configuration of a warm server: a file beside the server's socket, in a folder that only its user may enter."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

CONFIG, SOCKET = "config.json", "socket"
LOAD_SECONDS = 100
"""How long a server may take to load its code location."""
REFUSED = 3
"""The exit code of a server that cannot take runs and has told the waiting launches why."""


@dataclass(frozen=True)
class ServerConfig:
    """What a server needs to load its code location and to supervise its runs.

    Dagster's objects are in Dagster's own serialization. The instance's may contain a password.
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

    def write(self, folder: Path) -> None:
        """Store it in the server's folder."""
        (folder / CONFIG).write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> ServerConfig:
        """Load it from the server's folder."""
        return cls(**json.loads((folder / CONFIG).read_text()))
