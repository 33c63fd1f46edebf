"""Reports due in Django, run by Dagster: schedules and a durable queue in PostgreSQL."""
