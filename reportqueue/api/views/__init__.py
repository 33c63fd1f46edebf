"""The endpoints: each parses, calls one function of the queue or the schedules, and answers."""
