"""Reports due in Django, run by Dagster: schedules and a durable queue in PostgreSQL."""

from importlib.util import find_spec as _find_spec

__version__ = "0.1.0"
"""The version of the distribution, which has this package and two more. The build reads it from this line."""

_NEEDS = ("django", "rest_framework", "django_filters", "psycopg", "croniter", "standardwebhooks")
if _missing := [name for name in _NEEDS if _find_spec(name) is None]:
    raise ModuleNotFoundError(
        f"reportqueue needs {', '.join(_missing)}. Install the extra `django`: pip install 'reportqueue[django]'",
        name=_missing[0],
    )
