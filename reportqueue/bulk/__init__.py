"""Act on a filter: requeue or cancel all rows that match, in the background, in batches; pause it, stop it, undo it.

`start` makes a `BulkAction`, which the scheduler process works on: its loop calls `step`. Progress is stored in the
transaction that changes the rows, so a crash neither loses nor repeats one.
"""

from reportqueue.bulk.filters import COUNTED, Preview, checked, preview, words
from reportqueue.bulk.orders import count_prunable, get, pause, permission, prune, resume, start, stop, undo
from reportqueue.bulk.work import Worked, step

__all__ = [
    "COUNTED",
    "Preview",
    "Worked",
    "checked",
    "count_prunable",
    "get",
    "pause",
    "permission",
    "preview",
    "prune",
    "resume",
    "start",
    "step",
    "stop",
    "undo",
    "words",
]
