"""The chaos harness: its judges, and a short run of it."""
