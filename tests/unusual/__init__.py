"""A project with settings that are allowed and rare; `tests/integration/test_unusual_settings.py` runs its road."""
