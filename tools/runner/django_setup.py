"""Django in the demo's own process."""

from __future__ import annotations

import logging

import django


def set_up() -> None:
    """Set Django up. Call it after the environment is set, and before the app's modules are imported."""
    django.setup()
    logging.getLogger("reportqueue").setLevel(logging.WARNING)  # the demo shows its own rows anyway
