"""The simulator: the whole protocol in one process, with virtual time, against a real PostgreSQL (`run.py simulate`)."""
