"""Django in the demo's own process. Imported once the environment is set, and before anything of the app."""

from __future__ import annotations

import logging

import django

django.setup()
logging.getLogger("reportqueue").setLevel(logging.WARNING)  # what the demo enqueues is shown anyway
