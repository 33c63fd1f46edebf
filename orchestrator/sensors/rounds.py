"""The rounds of Dagster's daemon, in each of which it looks which sensors are to be started."""

ROUND_SECONDS = 5
"""As Dagster has it (`dagster._daemon.sensor.MIN_INTERVAL_LOOP_TIME`), without a setting."""
MAX_INTERVAL_SECONDS = 86_400


def interval(seconds: int) -> int:
    """What Dagster has to be told so that a sensor is started every so many seconds, 1 to a day.

    Dagster counts from the start of the last tick, which is a moment after its daemon has looked. So of a sensor that
    asks for 5 or 30 s, the tick that comes due is not quite due when the daemon looks, each time, and comes a round
    later. And 0 means 30 to it. Raises `ValueError` for a bound exceeded.
    """
    if not 1 <= seconds <= MAX_INTERVAL_SECONDS:
        raise ValueError(f"minimum_interval_seconds must be from 1 to {MAX_INTERVAL_SECONDS:,}; it is {seconds}.")
    return seconds if seconds % ROUND_SECONDS else seconds - 1
