"""Notifications: waiting claims are notified of new rows, live pages of changes, the scheduler of changed schedules."""
