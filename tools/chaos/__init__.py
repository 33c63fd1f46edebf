"""`run.py chaos`: real processes are killed, frozen and cut off, and a ledger outside the system says what was done.

The harness (`waves.py`) starts PostgreSQL, the web app behind a proxy, and a warm parent that has imported Dagster and
forks daemon lives and run workers in milliseconds. In one of the waves nothing is killed from outside: there the
reports themselves are bad (`bad_reports.py`). `judge.py` compares the ledger with the queue at the end.
"""
