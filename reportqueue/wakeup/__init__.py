"""How those who wait are notified: claims of new rows, the scheduler of changed schedules."""
