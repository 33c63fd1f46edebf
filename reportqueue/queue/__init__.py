"""The queue's verbs, one function each.

Each is one short transaction (a savepoint inside the caller's). Single rows are locked, checked against
`states.TRANSITIONS`, and written; so are the rows that a caller names, in the order of their ids (`..._many`: each has
its own answer, and none fails another); others are taken with SKIP LOCKED. Time is the database's, durations are in
seconds. Nothing is changed when a function raises.
"""

from reportqueue.queue.actions import cancel, requeue
from reportqueue.queue.claims import (
    Claim,
    claim,
    fail_launch,
    mark_processed,
    release_claimed,
    renew_dispatch,
    renew_dispatch_many,
)
from reportqueue.queue.firings import (
    LAUNCHED_GENERATION,
    Firing,
    Inserted,
    SkipNote,
    enqueue_firings,
    enter_launched,
)
from reportqueue.queue.intake import Enqueued, NewReport, enqueue, enqueue_many
from reportqueue.queue.pruning import Pruned, prunable, prune
from reportqueue.queue.rescue import Rescued, rescue_expired
from reportqueue.queue.runs import complete, complete_many, fail, heartbeat, heartbeat_many, release, start, start_many
from reportqueue.queue.standstill import Standstill, standstill
from reportqueue.queue.transitions import Heartbeat, Results

__all__ = [
    "LAUNCHED_GENERATION",
    "Claim",
    "Enqueued",
    "Firing",
    "Heartbeat",
    "Inserted",
    "NewReport",
    "Pruned",
    "Rescued",
    "Results",
    "SkipNote",
    "Standstill",
    "cancel",
    "claim",
    "complete",
    "complete_many",
    "enqueue",
    "enqueue_firings",
    "enqueue_many",
    "enter_launched",
    "fail",
    "fail_launch",
    "heartbeat",
    "heartbeat_many",
    "mark_processed",
    "prunable",
    "prune",
    "release",
    "release_claimed",
    "renew_dispatch",
    "renew_dispatch_many",
    "requeue",
    "rescue_expired",
    "standstill",
    "start",
    "start_many",
]
