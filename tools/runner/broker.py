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


def start(data: Path, children: Children, environment: Mapping[str, str], *, durable: bool = True) -> dict[str, str]:
    """Start Redis on a free port and return the variables of dagster.yaml. Raises `ChildFailed` or `Stopped`.

    Only processes with its password can use it, because what they send is executed. If it is
    `durable`, waiting runs outlive a restart.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise ChildFailed(
            f"{PROGRAM} is not installed, which --engine celery needs; on Debian: apt-get install redis-server"
        )
    folder = data / "redis"
    folder.mkdir(mode=0o700, exist_ok=True)
    port, password = free_port(), secrets.token_urlsafe(24)
    settings = folder / "redis.conf"
    settings.unlink(missing_ok=True)
    with os.fdopen(os.open(settings, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f'bind {HOST}\nport {port}\nrequirepass {password}\ndir "{folder}"\nsave ""\n')
        file.write(f"appendonly {'yes' if durable else 'no'}\n")
    child = children.start("redis", [program, str(settings)], environment, stop_round=STOP_ROUND)
    children.wait_until("Redis", lambda: _answers(port, password), child)
    url = f"redis://:{password}@{HOST}:{port}"
    return {"CELERY_BROKER_URL": f"{url}/0", "CELERY_RESULT_BACKEND": f"{url}/1"}


def _answers(port: int, password: str) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=REQUEST_SECONDS) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            answers = connection.makefile("rb")
            return answers.readline().startswith(b"+OK") and answers.readline().startswith(b"+PONG")
    except OSError:
        return False
