"""The tests' settings with two databases."""

import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES

DATABASES["reports"] = {**DATABASES["default"], "TEST": {"NAME": f"test_reports_{os.getpid()}"}}
DATABASES["default"]["TEST"] = {"NAME": f"test_users_{os.getpid()}"}
DATABASE_ROUTERS = ["tests.second_database.router.Router"]
SILENCED_SYSTEM_CHECKS = ["reportqueue.W003"]
