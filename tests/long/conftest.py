"""The acceptance tests' demos, for tests that take minutes."""

from tests.acceptance.conftest import folder, start_demo

__all__ = ["folder", "start_demo"]
