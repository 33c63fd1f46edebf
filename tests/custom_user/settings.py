"""The tests' settings with this user model, and a database of their own beside that of the other tests."""

import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.custom_user"]
AUTH_USER_MODEL = "custom_user.EmailUser"
DATABASES["default"]["TEST"] = {"NAME": f"test_custom_user_{os.getpid()}"}
