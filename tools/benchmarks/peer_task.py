"""The task of django-tasks-db, which finds it by its path."""

from __future__ import annotations

from django_tasks import task


@task
def make(customer: int) -> dict[str, int]:
    """Does nothing."""
    return {"rows": 1}
