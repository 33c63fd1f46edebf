"""The demo project, whose calls wait long for a lock: a test tells a call that waits for one from a slow machine."""

from __future__ import annotations

from project.settings import *  # noqa: F403
from project.settings import REPORTQUEUE

LOCK_SECONDS = 5
REPORTQUEUE = {**REPORTQUEUE, "LOCK_TIMEOUT_SECONDS": LOCK_SECONDS}
