"""The Redis server of `run.py demo --engine celery`, which carries runs to the Celery workers; and of a benchmark."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

from tools.runner.processes import ChildFailed, Children
from tools.runner.stack import HOST, REQUEST_SECONDS, free_port

PROGRAM = "redis-server"
STOP_ROUND = 1
"""It ends after the workers, which use it until they have ended."""


class Redis:
    """A Redis server's settings, on a free port. Its password is needed to use it, because what is sent is executed."""

    def __init__(self, data: Path, *, durable: bool = True) -> None:
        """If it is `durable`, waiting runs outlive a restart. Raises `ChildFailed` if Redis is not installed."""
        program = shutil.which(PROGRAM)
        if program is None:
            raise ChildFailed(
                f"{PROGRAM} is not installed, which --engine celery needs; on Debian: apt-get install redis-server"
            )
        folder = data / "redis"
        folder.mkdir(mode=0o700, exist_ok=True)
        self.port, self._password = free_port(), secrets.token_urlsafe(24)
        settings = folder / "redis.conf"
        settings.unlink(missing_ok=True)
        with os.fdopen(os.open(settings, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f'bind {HOST}\nport {self.port}\nrequirepass {self._password}\ndir "{folder}"\nsave ""\n')
            file.write(f"appendonly {'yes' if durable else 'no'}\n")
        self.command = [program, str(settings)]

    def variables(self, port: int | None = None) -> dict[str, str]:
        """The variables of dagster.yaml, for those who reach the server at another port, or at its own."""
        url = f"redis://:{self._password}@{HOST}:{port or self.port}"
        return {"CELERY_BROKER_URL": f"{url}/0", "CELERY_RESULT_BACKEND": f"{url}/1"}

    def answers(self) -> bool:
        """Whether it can be used."""
        try:
            with socket.create_connection((HOST, self.port), timeout=REQUEST_SECONDS) as connection:
                connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
                answers = connection.makefile("rb")
                return answers.readline().startswith(b"+OK") and answers.readline().startswith(b"+PONG")
        except OSError:
            return False


def start(data: Path, children: Children, environment: Mapping[str, str], *, durable: bool = True) -> dict[str, str]:
    """Start Redis and return the variables of dagster.yaml. Raises `ChildFailed` or `Stopped`."""
    redis = Redis(data, durable=durable)
    child = children.start("redis", redis.command, environment, stop_round=STOP_ROUND)
    children.wait_until("Redis", redis.answers, child)
    return redis.variables()
