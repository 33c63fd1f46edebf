"""The address of a run's warm server, in a tag of the run: by it the run is terminated and its state is asked for."""

from __future__ import annotations

import json
import socket
from dataclasses import asdict, dataclass
from typing import Self

TAG = ".dagster/reportqueue_warm_server"
"""Dagster does not show tags with this prefix: people can do nothing with an address."""


@dataclass(frozen=True)
class Address:
    """`path` is a socket in a folder with a random name, so a later process with the same `pid` has another address."""

    host: str
    pid: int
    path: str

    @classmethod
    def here(cls, pid: int, path: str) -> Self:
        """The address of a server on this host."""
        return cls(socket.gethostname(), pid, path)

    @classmethod
    def parse(cls, tag: str | None) -> Self | None:
        """Parse a run's tag; None if the launcher has not set it."""
        try:
            parsed = json.loads(tag or "")
            return cls(str(parsed["host"]), int(parsed["pid"]), str(parsed["path"]))
        except (ValueError, KeyError, TypeError):
            return None

    def tag(self) -> str:
        """The text that `parse` reads; always the same for the same server."""
        return json.dumps(asdict(self), sort_keys=True)

    def is_here(self) -> bool:
        """Whether the server is on this host."""
        return self.host == socket.gethostname()
