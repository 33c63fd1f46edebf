"""The demo's settings, with an SDK of OpenTelemetry."""

from project.settings import *  # noqa: F403
from tests import traces

traces.set_up()
