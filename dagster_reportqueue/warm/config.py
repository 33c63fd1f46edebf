"""What a warm server is started with: a file in a folder that only its user may enter, beside the server's socket."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

SETUP, SOCKET = "setup.json", "socket"
LOAD_SECONDS = 100
"""How long a server may take to load its code location."""
REFUSED = 3
"""The exit code of a server that has told those who waited for it why it takes no runs."""


@dataclass(frozen=True)
class Setup:
    """Dagster's objects are serialized, as it serializes them itself. The instance's may hold a password."""

    instance_ref: str
    repository_origin: str
    job_name: str | None
    """The job that is likely to be launched first."""
    preload: tuple[str, ...]
    """Modules to import besides."""
    max_runs: int
    stop_seconds: float
    """How long a run may take to end when it, or the server, is asked to."""
    linger_seconds: float
    """How long a run's process may stay after its run has ended."""
    stalled_seconds: float
    """After how long without a free slot the server says so."""
    audit_seconds: float
    """How often Dagster is asked whether a run that still has a process has ended."""

    def write(self, folder: Path) -> None:
        """Put it where the server looks for it."""
        (folder / SETUP).write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> Setup:
        """What was put there."""
        return cls(**json.loads((folder / SETUP).read_text()))
