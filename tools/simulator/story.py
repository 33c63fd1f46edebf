"""A failing scenario as a story that a person can read."""

from __future__ import annotations

import re

from tools.simulator.outcome import Outcome

MOST_LINES = 150
_NUMBER = re.compile(r"(?<![\w.-])(\d+)(?![\w.-])")


def story(outcome: Outcome) -> str:
    """What was wrong, and what led to it: the faults, and everything about the rows concerned."""
    rows = {wrong.row for wrong in outcome.wrong if wrong.row is not None}
    for wrong in outcome.wrong:
        rows |= {int(number) for number in re.findall(r"\(row (\d+)\)", wrong.text)}
    told = [one for one in outcome.told if _matters(one, rows)]
    lines = [f"  {at:9.3f} s  {who:<10}  {text[:220]}" for at, who, text in told]
    if len(lines) > MOST_LINES:
        half = MOST_LINES // 2
        lines = [*lines[:half], f"  ... {len(lines) - MOST_LINES} lines left out ...", *lines[-half:]]
    return "\n".join(
        [
            "What is wrong:",
            *(f"  {wrong}" for wrong in outcome.wrong),
            f"Who takes part: {', '.join(['alpha', *outcome.participants])}.",
            f"Faults: {', '.join(f'{count} x {kind}' for kind, count in sorted(outcome.kinds.items())) or 'none'}.",
            "What happened:",
            *lines,
        ]
    )


def _matters(one: tuple[float, str, str], rows: set[int]) -> bool:
    _, who, text = one
    if who in ("FAULT", ""):
        return True
    if text.startswith("GET") or ("heartbeat" in text and "-> 200" in text):
        return False
    if text.endswith("-> 200: rows []"):
        return False
    if not rows or "schedules/" in text:
        return True
    return any(int(number) in rows for number in _NUMBER.findall(text.replace("/", " ").replace(":", " ")))
