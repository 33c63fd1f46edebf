"""Notifications: waiting claims are notified of new rows, the scheduler of changed schedules."""
