"""Where a run's warm server is: a tag of the run, for whoever wants to stop the run or to know how it is."""

from __future__ import annotations

import json
import socket
from dataclasses import asdict, dataclass
from typing import Self

TAG = "reportqueue/warm_server"


@dataclass(frozen=True)
class Address:
    """`path` is that of a socket in a folder with a random name: another process under the same `pid` has another."""

    host: str
    pid: int
    path: str

    @classmethod
    def here(cls, pid: int, path: str) -> Self:
        """Of a server on this host."""
        return cls(socket.gethostname(), pid, path)

    @classmethod
    def parse(cls, tag: str | None) -> Self | None:
        """From a run's tag; None if there is none that a warm server has put there."""
        try:
            parsed = json.loads(tag or "")
            return cls(str(parsed["host"]), int(parsed["pid"]), str(parsed["path"]))
        except (ValueError, KeyError, TypeError):
            return None

    def tag(self) -> str:
        """As `parse` reads it; the same text for the same server."""
        return json.dumps(asdict(self), sort_keys=True)

    def is_here(self) -> bool:
        """Whether it is of this host."""
        return self.host == socket.gethostname()
