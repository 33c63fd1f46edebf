"""The tests' settings with the queue in `reports`, and everything else in `default`."""

import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, REPORTQUEUE

DATABASES["default"] |= {"TEST": {"NAME": f"test_of_the_project_{os.getpid()}"}, "ATOMIC_REQUESTS": True}
DATABASES["reports"] = {**DATABASES["default"], "TEST": {"NAME": f"test_of_the_queue_{os.getpid()}"}}
DATABASE_ROUTERS = ["reportqueue.routers.ReportQueueRouter"]
REPORTQUEUE = {**REPORTQUEUE, "DATABASE": "reports"}
