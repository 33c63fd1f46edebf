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
POOL_KEPT = "report keeps a thread pool"
THREAD_KEPT = "report leaves a thread that never ends"
ATEXIT_SLEEPS = "report leaves an atexit handler that sleeps"
CHILD_KEPT = "report leaves a child process"
DAEMON_KEPT = "report leaves a daemonised grandchild"
HANGS_WITH_LOCK = "report hangs in C, with the interpreter lock"
HANGS_WITHOUT_LOCK = "report hangs in C, its run is terminated"
FREEZES_ITSELF = "report freezes its own process"
SEGFAULTS = "report ends in a segfault"
EXITS = "report calls os._exit(0)"
KILLS_ITSELF = "report sends itself SIGKILL"
TERMINATES_ITSELF = "report sends itself SIGTERM"
KEYBOARD_INTERRUPT = "report raises KeyboardInterrupt"
SYSTEM_EXIT = "report raises SystemExit"
CANCELLED_ERROR = "report raises asyncio.CancelledError"
BATCH_SEGFAULTS = "report of a batch ends in a segfault"
BATCH_EXITS = "report of a batch calls os._exit(0)"
ROW_LOCKED = "row locked by a stranger's transaction"
GENERATION_BOUND = "generation at its column's bound"
LAUNCH_FAILURES_BOUND = "launch failures at their column's bound"
CONNECTIONS_TAKEN = "PostgreSQL at max_connections"
HOST_KILLED = "host killed with its runs"
HOST_CUT_OFF = "host cut off from everybody"
BROKER_KILLED = "broker killed and restarted"
API_AWAY = "Kubernetes API away"
PODS_PENDING = "pods Pending for longer than a lease"
RUNS_WAIT = "runs wait in the engine for several leases"

CONSUMERS = ("alpha", "beta", "gamma")
REPAIRED_CONSUMER = "alpha"
"""The one whose rows the repair sensors look after."""
BATCH_CONSUMER = "delta"
"""Makes batches of whatever it is handed; it is there for that part of the bad reports alone."""
LEASE_SECONDS = 5
"""Of a run: the shortest that the API takes."""
STOP_SECONDS = LINGER_SECONDS = 3
"""Of the warm launcher: how long a run may take to end once it was asked to, and once it has made its report."""
MAX_RELEASES = 3
"""After so many, a run that gives its row back uses up an attempt."""
HARNESS, WARM, CELERY, KUBERNETES = "harness", "warm", "celery", "kubernetes"
"""Who starts the runs' processes: the warm parent of the harness, the product's warm launcher, Celery workers, or a
stand-in for Kubernetes."""

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

LEFT_BEHIND = (POOL_KEPT, THREAD_KEPT, ATEXIT_SLEEPS, CHILD_KEPT, DAEMON_KEPT)
HANGING = (HANGS_WITH_LOCK, HANGS_WITHOUT_LOCK, FREEZES_ITSELF)
DEADLY = (SEGFAULTS, EXITS, KILLS_ITSELF, BATCH_SEGFAULTS, BATCH_EXITS)
"""The process ends there and then."""
RAISING = (TERMINATES_ITSELF, KEYBOARD_INTERRUPT, SYSTEM_EXIT, CANCELLED_ERROR)
BATCHED = (BATCH_SEGFAULTS, BATCH_EXITS)
BOUNDS = (GENERATION_BOUND, LAUNCH_FAILURES_BOUND)

CRASHES, LOSSES, OUTAGES, BAD_REPORTS, ENGINE = "crashes", "network", "outages", "bad-reports", "engine"
WAVES = {
    CRASHES: (
        *(CLAIM_ANSWERED, TICK_CREATED, TICK_HELD, RUN_IDS_RESERVED, RUN_CREATED, LAUNCHING, RUN_LAUNCHED),
        *(TICK_FAILED_TWICE, LAUNCH_FAILED, CONSUMER_GONE),
        *(BEFORE_START, AFTER_START, MIDDLE, BEFORE_COMPLETE, AFTER_COMPLETE, ZOMBIE_WORK, ZOMBIE_COMPLETE),
        REEXECUTED,
    ),
    LOSSES: NETWORK,
    OUTAGES: (WEB_KILLED, SCHEDULER_KILLED, POSTGRES_FAST, POSTGRES_IMMEDIATE),
    BAD_REPORTS: (*DEADLY, *RAISING, ROW_LOCKED, *BOUNDS, CONNECTIONS_TAKEN),
}
"""The points of each wave, whatever the engine is."""
ALL = tuple(point for some in WAVES.values() for point in some)
_ON_HOSTS = (HOST_KILLED, HOST_CUT_OFF, RUNS_WAIT)
OF_ENGINE: dict[str, dict[str, tuple[str, ...]]] = {
    HARNESS: {},
    WARM: {CRASHES: (SERVER_KILLED,), BAD_REPORTS: (*LEFT_BEHIND, *HANGING)},
    CELERY: {ENGINE: (*_ON_HOSTS, BROKER_KILLED)},
    KUBERNETES: {ENGINE: (*_ON_HOSTS, API_AWAY, PODS_PENDING)},
}
"""Those that only one engine comes to. Only the warm launcher has a server, and ends processes that a report left."""
ENGINES = tuple(OF_ENGINE)


def reached(engine: str, wave: str | None = None) -> tuple[str, ...]:
    """All that a run with this engine comes to, in all waves or in one."""
    return tuple(
        point
        for name in (*WAVES, ENGINE)
        if wave in (None, name)
        for point in (*WAVES.get(name, ()), *OF_ENGINE[engine].get(name, ()))
    )
