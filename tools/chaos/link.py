"""How to ask the warm parent for a process."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from typing import Any


def ask(what: Mapping[str, Any]) -> Any:
    """Send one request to the warm parent; the file of its answers, a JSON object a line."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(30)
    connection.connect(os.environ["CHAOS_WARM"])
    connection.sendall(json.dumps(what).encode() + b"\n")
    answers = connection.makefile("rb")
    connection.settimeout(None)  # the end of a life is an answer, too
    connection.close()  # the file keeps it open
    return answers
