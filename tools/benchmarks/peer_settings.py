"""Django settings of the queues that need Django, for the database in PEER_URL."""

from __future__ import annotations

import os
from urllib.parse import parse_qs, urlsplit

_parts = urlsplit(os.environ["PEER_URL"])
_options = parse_qs(_parts.query)
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _parts.path[1:],
        "USER": _parts.username or "",
        "PASSWORD": _parts.password or "",
        "HOST": _options["host"][0] if "host" in _options else _parts.hostname or "",
        "PORT": _options["port"][0] if "port" in _options else str(_parts.port or ""),
        # By default, Django's connections end with each task.
        "CONN_MAX_AGE": int(os.environ.get("PEER_CONN_MAX_AGE", "0")),
    }
}
INSTALLED_APPS = ["django_tasks", "django_tasks_db", "django_celery_results"]
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
SECRET_KEY = "of no use here"
USE_TZ = True
