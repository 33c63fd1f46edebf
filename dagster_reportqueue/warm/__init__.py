"""The warm server: a process that imports a code location once and then forks a process for each run.

`python -m dagster_reportqueue.warm` is the server; `server_process.ServerProcess` starts one and sends it runs. It does
not depend on reports: it works with any code location, and a code location does not have to know of it.
"""
