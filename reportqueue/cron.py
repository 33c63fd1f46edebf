"""When a cron expression fires: the rules of `reportcron`, which the orchestrator's sensors go by too.

`between(expression, timezone, start, end)` gives the instants in `(start, end]`, aware, in UTC and in order.
"""

from reportcron import *  # noqa: F403  # all that it offers is offered here
from reportcron import __all__ as __all__
