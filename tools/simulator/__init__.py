"""The simulator: the whole protocol in one process, in virtual time, against a real PostgreSQL."""
