"""The demo's settings for tests and for mypy, with a key that is nobody's secret, and with the tokens of DRF."""

import os

os.environ.setdefault("SECRET_KEY", "of-the-tests-and-of-nothing-else")  # the processes that tests start have it, too
os.environ.setdefault("METRICS_OPEN", "1")
os.environ["DAGSTER_URL"] = ""  # a demo that has run in this folder has left its own, which nothing here must call

from project.settings import *  # noqa: F403
from project.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "rest_framework.authtoken"]
WHITENOISE_AUTOREFRESH = True
"""Static files are looked for when they are asked for, and not all of them for each new client of a test."""
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
"""A quick one: what is tested is not how passwords are kept."""
