"""The names of the points at which something breaks, as the table shows them."""

from __future__ import annotations

CLAIM_ANSWERED = "daemon killed: claim answered, tick not stored"
TICK_CREATED = "daemon killed at TICK_CREATED (before the claim)"
TICK_HELD = "daemon killed at TICK_HELD (before the claim)"
RUN_IDS_RESERVED = "daemon killed at RUN_IDS_RESERVED"
RUN_CREATED = "daemon killed at RUN_CREATED"
LAUNCHING = "daemon killed in the run launcher"
RUN_LAUNCHED = "daemon killed at RUN_LAUNCHED"
TICK_FAILED_TWICE = "tick failed twice, its requests dropped"
LAUNCH_FAILED = "run created, launch failed"
CONSUMER_GONE = "consumer gone, another takes over"
BEFORE_START = "worker killed before its start"
AFTER_START = "worker killed after start was answered"
MIDDLE = "worker killed in the middle of the work"
BEFORE_COMPLETE = "worker killed after the work, before complete"
AFTER_COMPLETE = "worker killed after complete was answered"
ZOMBIE_WORK = "worker frozen in its work beyond its lease"
ZOMBIE_COMPLETE = "worker frozen in complete beyond its lease"
SERVER_KILLED = "warm server killed with its runs"
REEXECUTED = "finished run re-executed by a person"
WEB_KILLED = "web app killed and restarted"
SCHEDULER_KILLED = "scheduler killed in a pass"
POSTGRES_FAST = "PostgreSQL restarted (fast)"
POSTGRES_IMMEDIATE = "PostgreSQL restarted (immediate)"
REQUEST_DROPPED = "network: request dropped"
ANSWER_DROPPED = "network: answer dropped"
DELAYED = "network: request late, beyond the time-out"
DUPLICATED = "network: request sent twice"
BAD_GATEWAY = "network: answered 502"

CONSUMERS = ("alpha", "beta", "gamma")
LEASE_SECONDS = 5
"""Of a run: the shortest that the API takes."""
HARNESS, WARM = "harness", "warm"
LAUNCHERS = (HARNESS, WARM)
"""Who starts the runs' processes: the warm parent of the harness, or the product's warm launcher."""

CRASH_FLAGS = {
    "TICK_CREATED": TICK_CREATED,
    "TICK_HELD": TICK_HELD,
    "RUN_IDS_RESERVED": RUN_IDS_RESERVED,
    "RUN_CREATED": RUN_CREATED,
    "RUN_LAUNCHED": RUN_LAUNCHED,
}
"""Dagster's own names of the points in a sensor's tick."""
AT_START = (BEFORE_START, AFTER_START)
IN_WORK = (MIDDLE, ZOMBIE_WORK)
AT_COMPLETE = (BEFORE_COMPLETE, ZOMBIE_COMPLETE, AFTER_COMPLETE)
NETWORK = (REQUEST_DROPPED, ANSWER_DROPPED, DELAYED, DUPLICATED, BAD_GATEWAY)

ALL = (
    *(CLAIM_ANSWERED, TICK_CREATED, TICK_HELD, RUN_IDS_RESERVED, RUN_CREATED, LAUNCHING, RUN_LAUNCHED),
    *(TICK_FAILED_TWICE, LAUNCH_FAILED, CONSUMER_GONE),
    *(BEFORE_START, AFTER_START, MIDDLE, BEFORE_COMPLETE, AFTER_COMPLETE, ZOMBIE_WORK, ZOMBIE_COMPLETE),
    *(REEXECUTED, WEB_KILLED, SCHEDULER_KILLED, POSTGRES_FAST, POSTGRES_IMMEDIATE),
    *NETWORK,
)
"""Whoever launches."""


def reached(launcher: str) -> tuple[str, ...]:
    """All that a run with this launcher comes to."""
    return (*ALL, SERVER_KILLED) if launcher == WARM else ALL
