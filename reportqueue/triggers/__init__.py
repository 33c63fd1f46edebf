"""Which pattern owns an instant: switches from one pattern to another, and the firings that sensors launch."""

from reportqueue.triggers.consumers import (
    Silence,
    Twice,
    Unasked,
    asked_routes,
    saw,
    silence_of,
    silent,
    troubles,
    twice,
    unasked,
    watch,
)
from reportqueue.triggers.handovers import (
    Current,
    Handover,
    cancel_planned,
    current,
    hand_over,
    history,
    overdue,
    pattern_at,
)
from reportqueue.triggers.sensor_firings import queue_firing, start_firing

__all__ = [
    "Current",
    "Handover",
    "Silence",
    "Twice",
    "Unasked",
    "asked_routes",
    "cancel_planned",
    "current",
    "hand_over",
    "history",
    "overdue",
    "pattern_at",
    "queue_firing",
    "saw",
    "silence_of",
    "silent",
    "start_firing",
    "troubles",
    "twice",
    "unasked",
    "watch",
]
