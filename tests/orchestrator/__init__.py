"""The demo's code location."""
