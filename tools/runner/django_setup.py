"""Sets up Django in the demo's own process. Import it after the environment is set, and before the app's modules."""

from __future__ import annotations

import logging

import django

django.setup()
logging.getLogger("reportqueue").setLevel(logging.WARNING)  # the demo shows its own rows anyway
