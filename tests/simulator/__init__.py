"""The simulator: a run of it, exact replay, its judge, its shrinker, and its virtual time."""
