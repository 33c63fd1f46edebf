"""Settings of a process whose connections come from psycopg's own pool."""

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES

DATABASES["default"] |= {"CONN_MAX_AGE": 0, "OPTIONS": {**DATABASES["default"]["OPTIONS"], "pool": True}}
