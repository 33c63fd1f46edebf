"""A project with settings that are allowed and rare; `tests/acceptance/test_unusual_project.py` copies and runs it."""
