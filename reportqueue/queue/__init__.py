"""The queue's verbs, one function each.

Each function is one short transaction in the queue's database, or a savepoint inside the caller's. A verb for one row
locks it, checks the transition against `states.TRANSITIONS`, and writes it. `..._many` locks the given rows in the
order of their ids; each row succeeds or fails alone. `..._together` does so too, but raises if a lock beside the rows'
own, or the database, prevents the change of one of them. All other verbs use SKIP LOCKED. Times are the database's,
durations are in seconds. Numbers must be whole and have the API's bounds; a `ValidationError` names one that does not.
When a function raises, nothing was changed.
"""

from reportqueue.queue.actions import Objection, cancel, cancel_together, requeue, requeue_together
from reportqueue.queue.choice import count_before, due_routes
from reportqueue.queue.claims import (
    Claim,
    claim,
    fail_launch,
    mark_processed,
    release_claimed,
    renew_dispatch,
    renew_dispatch_many,
)
from reportqueue.queue.depths import RouteDepth, depths_of_routes
from reportqueue.queue.expiry import skip_too_late
from reportqueue.queue.failure_groups import (
    FailureGroup,
    FailureGroups,
    count_failed_like,
    failure_titles,
    grouped_failures,
    mute,
    unmute,
)
from reportqueue.queue.firings import (
    LAUNCHED_GENERATION,
    Firing,
    Inserted,
    SkipNote,
    enqueue_firings,
    enter_launched,
)
from reportqueue.queue.intake import (
    UNFINISHED,
    Enqueued,
    NewReport,
    OutsideTransaction,
    digest_of,
    enqueue,
    enqueue_many,
    known,
)
from reportqueue.queue.limits import Use, held, next_start, use_of
from reportqueue.queue.pauses import doubt, known_routes, pause, paused, resume
from reportqueue.queue.pruning import Pruned, prunable, prune, prune_audit
from reportqueue.queue.rescue import Rescued, rescue_expired
from reportqueue.queue.runs import complete, complete_many, fail, heartbeat, heartbeat_many, release, start, start_many
from reportqueue.queue.standstill import Standstill, standstill
from reportqueue.queue.transitions import Heartbeat, Results
from reportqueue.queue.turns import must_wait, turn_before

__all__ = [
    "LAUNCHED_GENERATION",
    "UNFINISHED",
    "Claim",
    "Enqueued",
    "FailureGroup",
    "FailureGroups",
    "Firing",
    "Heartbeat",
    "Inserted",
    "NewReport",
    "Objection",
    "OutsideTransaction",
    "Pruned",
    "Rescued",
    "Results",
    "RouteDepth",
    "SkipNote",
    "Standstill",
    "Use",
    "cancel",
    "cancel_together",
    "claim",
    "complete",
    "complete_many",
    "count_before",
    "count_failed_like",
    "depths_of_routes",
    "digest_of",
    "doubt",
    "due_routes",
    "enqueue",
    "enqueue_firings",
    "enqueue_many",
    "enter_launched",
    "fail",
    "fail_launch",
    "failure_titles",
    "grouped_failures",
    "heartbeat",
    "heartbeat_many",
    "held",
    "known",
    "known_routes",
    "mark_processed",
    "must_wait",
    "mute",
    "next_start",
    "pause",
    "paused",
    "prunable",
    "prune",
    "prune_audit",
    "release",
    "release_claimed",
    "renew_dispatch",
    "renew_dispatch_many",
    "requeue",
    "requeue_together",
    "rescue_expired",
    "resume",
    "skip_too_late",
    "standstill",
    "start",
    "start_many",
    "turn_before",
    "unmute",
    "use_of",
]
