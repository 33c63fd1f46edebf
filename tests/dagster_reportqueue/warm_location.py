"""A code location for the warm launcher: its runs say in a file what they are, and do what their tags say."""

import atexit
import ctypes
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

from dagster import Definitions, Nothing, OpExecutionContext, Out, in_process_executor, job, op

NOTES = "WARM_NOTES"
"""The environment variable with the folder of the runs' files."""
IMPORTED_BY = os.getpid()


KEPT: list[Any] = []
"""What reports keep in a module."""


def note(facts: dict[str, Any]) -> None:
    """A line of the file that all runs write."""
    with (Path(os.environ[NOTES]) / "notes").open("a") as notes:
        notes.write(json.dumps(facts) + "\n")


def sleeper(run_id: str) -> None:
    """A process that a run has forked and that stays: it notes itself."""
    note({"run_id": run_id, "left": os.getpid()})
    time.sleep(60)
    os._exit(0)


def pool(run_id: str) -> None:
    """Keep a pool with a worker that is idle."""
    KEPT.append(ThreadPoolExecutor(2))
    KEPT[-1].submit(int).result()


def thread(run_id: str) -> None:
    """Leave a thread that is no daemon and does not end."""
    threading.Thread(target=threading.Event().wait, name="never-ending").start()


def at_exit(run_id: str) -> None:
    """Leave an exit handler that takes long."""
    atexit.register(time.sleep, 60)


def joined(run_id: str) -> None:
    """Leave a child that the interpreter waits for."""
    KEPT.append(multiprocessing.get_context("fork").Process(target=sleeper, args=[run_id]))
    KEPT[-1].start()


def helper(run_id: str) -> None:
    """Leave a child that the interpreter ends."""
    KEPT.append(multiprocessing.get_context("fork").Process(target=sleeper, args=[run_id], daemon=True))
    KEPT[-1].start()


def shared(run_id: str) -> None:
    """Start the process that cleans up after this one, which has left memory to be cleaned up."""
    memory = SharedMemory(create=True, size=1)
    note({"run_id": run_id, "memory": memory.name, "left": resource_tracker._resource_tracker._pid})  # type: ignore[attr-defined]
    memory.close()


def watch(run_id: str) -> None:
    """Start a helper that ends a moment after this process."""
    watcher = subprocess.Popen(["sh", "-c", f"while kill -0 {os.getpid()} 2> /dev/null; do sleep 0.2; done"])
    note({"run_id": run_id, "left": watcher.pid})


def folder(run_id: str) -> None:
    """Keep a folder that is to be removed at the end."""
    KEPT.append(tempfile.TemporaryDirectory())
    note({"run_id": run_id, "folder": KEPT[-1].name})


def lock(run_id: str) -> None:
    """Hang in C, and hold the interpreter's lock: a deadlock."""
    library, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(256)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)


def stop(run_id: str) -> None:
    """Be stopped, as by a debugger or a job control."""
    os.kill(os.getpid(), signal.SIGSTOP)


def move(run_id: str) -> None:
    """Leave the run's own process group for the server's."""
    os.setpgid(0, os.getpgid(os.getppid()))


def child(run_id: str) -> None:
    """Leave a forked child in the run's group."""
    if os.fork() == 0:
        sleeper(run_id)


def daemon(run_id: str) -> None:
    """Leave a process that has made itself a daemon: forked twice, in a session of its own."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork() == 0:
            sleeper(run_id)
        os._exit(0)
    os.waitpid(pid, 0)


def session(run_id: str) -> None:
    """Leave a program in a session of its own, with a child of its own."""
    shell = subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"], start_new_session=True, stdout=subprocess.PIPE)
    assert shell.stdout is not None
    note({"run_id": run_id, "left": int(shell.stdout.readline())})
    note({"run_id": run_id, "left": shell.pid})


def copy(run_id: str) -> None:
    """Fork, and let both go on."""
    if os.fork() == 0:
        note({"run_id": run_id, "left": os.getpid()})


def copy_that_raises(run_id: str) -> None:
    """Fork, and let the child end as a program does."""
    if os.fork() == 0:
        note({"run_id": run_id, "left": os.getpid()})
        sys.exit()


def die(run_id: str) -> None:
    """End without a word."""
    os._exit(0)


def wait(run_id: str) -> None:
    """Go on for long."""
    threading.Event().wait(60)


STAYS = {
    act.__name__: act
    for act in (
        pool, thread, at_exit, joined, helper, shared, watch, folder, lock, stop, move, child, daemon, session, copy,
        copy_that_raises, die, wait,
    )
}  # fmt: skip
"""What a tag may say, and several of them one after the other."""


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
    note(facts)
    print("printed by the op", flush=True)
    match context.run.tags["do"].split():
        case ["ignore"]:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            threading.Event().wait(60)
        case ["signal", number]:
            os.kill(os.getpid(), int(number))
        case ["exit", code]:
            os._exit(int(code))
        case [verb, *then]:
            for one in (verb, *then):
                STAYS.get(one, lambda run_id: None)(context.run_id)


@job(executor_def=in_process_executor)
def acting_job() -> None:
    """One op."""
    act()


defs = Definitions(jobs=[acting_job])
