"""Sensors: thin, they claim, yield run requests and return the cursor. No status logic."""
