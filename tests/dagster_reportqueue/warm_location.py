"""A code location for the warm launcher: its runs say in a file what they are, and do what their tags say."""

import json
import os
import random
import signal
import sys
import threading
from pathlib import Path

from dagster import Definitions, Nothing, OpExecutionContext, Out, in_process_executor, job, op

NOTES = "WARM_NOTES"
"""The environment variable with the folder of the runs' files."""
IMPORTED_BY = os.getpid()


@op(out=Out(Nothing))
def act(context: OpExecutionContext) -> None:
    """Note who this is, and then do it."""
    numpy_random = sys.modules.get("numpy.random")
    facts = {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "imported_by": IMPORTED_BY,
        "run_id": context.run_id,
        "random": [random.random(), numpy_random.random() if numpy_random else None],
        "pool": type(context.instance.event_log_storage._engine.pool).__name__,  # type: ignore[attr-defined]
    }
    with (Path(os.environ[NOTES]) / "notes").open("a") as notes:
        notes.write(json.dumps(facts) + "\n")
    print("printed by the op", flush=True)
    match context.run.tags["do"].split():
        case ["wait"]:
            threading.Event().wait(60)
        case ["ignore"]:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            threading.Event().wait(60)
        case ["signal", number]:
            os.kill(os.getpid(), int(number))
        case ["exit", code]:
            os._exit(int(code))


@job(executor_def=in_process_executor)
def acting_job() -> None:
    """One op."""
    act()


defs = Definitions(jobs=[acting_job])
