"""`run.py bench`: runs a benchmark on a temporary PostgreSQL."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from tools.runner import stop_signals
from tools.runner.checks import run_in_foreground
from tools.runner.postgres import EmbeddedPostgres
from tools.runner.processes import ChildFailed, Children


def run(name: str, options: list[str]) -> int:
    """Run a benchmark of `tools/benchmarks`; return its exit code, 0 only if its goals hold. Failures keep a log."""
    folder = Path(tempfile.mkdtemp(prefix="reportqueue-bench-"))
    log = folder / "benchmark.log"
    children = Children(folder / "logs")
    # Durable, as in production: a commit is written to the disk.
    postgres = EmbeddedPostgres(folder, children)
    try:
        os.environ |= {
            "DATABASE_URL": postgres.start(),
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "SECRET_KEY": secrets.token_urlsafe(48),
            "BENCHMARK_FOLDER": str(folder),
        }
        with log.open("w") as errors:
            code = run_in_foreground([sys.executable, "-m", f"tools.benchmarks.{name}", *options], stderr=errors)
    except ChildFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except stop_signals.Stopped:
        code = 130
    finally:
        children.stop_all(0, 0, 3.0)
        postgres.close()
    if code == 1 and "Traceback" in log.read_text():
        print(f"error: the benchmark failed; see {log}", file=sys.stderr)
        return 1
    if code == 2:  # wrong options
        print(log.read_text(), end="", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    return code
