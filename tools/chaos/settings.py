"""The demo project's settings with short leases and delays, so that a crash is over in seconds."""

from project.settings import *  # noqa: F403
from tools.chaos.points import MAX_RELEASES

REPORTQUEUE = {
    "CLAIM_LEASE_SECONDS": 5,
    "DISPATCH_LEASE_SECONDS": 12,
    "RUN_LEASE_SECONDS": 5,
    "RETRY_BACKOFF_SECONDS": 1,
    "RETRY_BACKOFF_MAX_SECONDS": 1,
    "MAX_RELEASES": MAX_RELEASES,
    "WAIT_POLL_SECONDS": 0.2,
}
