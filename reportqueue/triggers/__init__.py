"""Which pattern fires a schedule at an instant: hand-overs between patterns, and the firings that sensors launch."""

from reportqueue.triggers.handovers import (
    Handover,
    Standing,
    cancel_planned,
    hand_over,
    history,
    overdue,
    pattern_at,
    standing,
)
from reportqueue.triggers.sensor_firings import queue_firing, start_firing

__all__ = [
    "Handover",
    "Standing",
    "cancel_planned",
    "hand_over",
    "history",
    "overdue",
    "pattern_at",
    "queue_firing",
    "standing",
    "start_firing",
]
