"""The settings of tests, in which webhooks may go to this machine."""

from tests.settings import *  # noqa: F403
from tests.settings import REPORTQUEUE

REPORTQUEUE = {
    **REPORTQUEUE,
    "WEBHOOK_ALLOW_HTTP": True,
    "WEBHOOK_ALLOWED_NETWORKS": ["127.0.0.0/8"],
    "WEBHOOK_TIMEOUT_SECONDS": 1,
    "WEBHOOK_RETRY_SECONDS": 600,
}
