"""The Celery app of the tests' worker, whose broker and results are files below the folder in CELERY_FOLDER."""

import os
from pathlib import Path
from typing import Any

from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_execute_job_task, create_resume_job_task

FOLDER = "CELERY_FOLDER"


def settings(folder: Path) -> dict[str, Any]:
    """The options of the launcher that sends tasks to it."""
    for name in ("tasks", "control", "results"):
        (folder / name).mkdir(exist_ok=True)
    return {
        "broker": "filesystem://",
        "backend": f"file://{folder / 'results'}",
        "config_source": {
            "broker_transport_options": {
                "data_folder_in": str(folder / "tasks"),
                "data_folder_out": str(folder / "tasks"),
                "control_folder": str(folder / "control"),
            },
            "worker_prefetch_multiplier": 1,
            # With this broker a worker whose processes are all busy would wait for one, and hear of no revocation.
            "worker_pool_putlocks": False,
        },
    }


if FOLDER in os.environ:
    app = make_app({**settings(Path(os.environ[FOLDER])), "task_default_queue": "dagster"})
    create_execute_job_task(app)
    create_resume_job_task(app)
