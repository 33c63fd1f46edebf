"""The warm server: a process that has imported a code location once, and forks a run's process whenever it is asked.

`python -m dagster_reportqueue.warm` is the server; `server_process.ServerHost` starts one and talks to it. It knows
nothing of reports: any code location will do, and none has to know of it.
"""
