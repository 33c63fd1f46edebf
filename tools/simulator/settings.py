"""The demo project's settings with nothing that the simulator does not need: no sessions, no log, the API alone."""

from project.settings import *  # noqa: F403
from project.settings import DATABASES, INSTALLED_APPS

SCHEMA = "simulator"
"""Its functions come before PostgreSQL's own: `clock_timestamp()` is the scenario's time."""
LEASE_SECONDS = 30
"""Of a run."""
MAX_RELEASES = 3

DATABASES = {
    "default": {
        **DATABASES["default"],
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": False,
        "OPTIONS": {
            **DATABASES["default"].get("OPTIONS", {}),
            "options": f"-c search_path={SCHEMA},pg_catalog,public -c lock_timeout=1s -c statement_timeout=20s",
        },
    }
}
INSTALLED_APPS = [app for app in INSTALLED_APPS if app not in ("project", "django.contrib.admin")]
MIDDLEWARE: list[str] = []
ROOT_URLCONF = "tools.simulator.urls"
REPORTQUEUE = {
    "CLAIM_LEASE_SECONDS": 30,
    "DISPATCH_LEASE_SECONDS": 120,
    "RUN_LEASE_SECONDS": LEASE_SECONDS,
    "RETRY_BACKOFF_SECONDS": 5,
    "RETRY_BACKOFF_MAX_SECONDS": 20,
    "MAX_RELEASES": MAX_RELEASES,
    "MISFIRE_GRACE_SECONDS": 60,
    "LOCK_TIMEOUT_SECONDS": 0.05,
}
LOGGING = {"version": 1, "disable_existing_loggers": False, "root": {"level": "ERROR"}}
