"""The demo project's settings with short leases, so that killed reports are made again within a minute."""

from project.settings import *  # noqa: F403
from project.settings import REPORTQUEUE as OF_THE_DEMO

LEASES = {"CLAIM_LEASE_SECONDS": 30, "DISPATCH_LEASE_SECONDS": 60}
REPORTQUEUE = {**OF_THE_DEMO, **LEASES, "RETRY_BACKOFF_SECONDS": 1, "RETRY_BACKOFF_MAX_SECONDS": 5}
