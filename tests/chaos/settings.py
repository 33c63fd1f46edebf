"""The demo project's settings with short leases and delays, so that a crash is over in seconds."""

from project.settings import *  # noqa: F403

REPORTQUEUE = {
    "CLAIM_LEASE_SECONDS": 5,
    "DISPATCH_LEASE_SECONDS": 12,
    "RUN_LEASE_SECONDS": 5,
    "RETRY_BACKOFF_SECONDS": 1,
    "RETRY_BACKOFF_MAX_SECONDS": 1,
    "WAIT_POLL_SECONDS": 0.2,
}
