"""Sets up Django in the demo's own process."""

from __future__ import annotations

import logging

import django


def set_up() -> None:
    """Call this after the environment is set, and before any module of the app is imported."""
    django.setup()
    logging.getLogger("reportqueue").setLevel(logging.WARNING)  # the demo shows its own rows anyway
