"""The tests' settings for the web app that a browser visits: with a strict content security policy."""

from tests.settings import *  # noqa: F403
from tests.settings import MIDDLEWARE, REPORTQUEUE

MIDDLEWARE = ["tests.browser.policy.PolicyMiddleware", *MIDDLEWARE]
REPORTQUEUE = {**REPORTQUEUE, "MAX_STREAMS": 32, "MODIFIER_MODEL": "auth.User"}
"""A stream of a page that is closed goes on until its next heartbeat: the next test needs another."""
