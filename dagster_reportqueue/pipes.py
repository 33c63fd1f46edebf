"""Runs an external process for a report with Dagster Pipes; the process does not outlive the report's work."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

from dagster import AssetExecutionContext, OpExecutionContext, PipesSubprocessClient, open_pipes_session
from dagster._core.errors import DagsterPipesExecutionError
from dagster._core.pipes.client import PipesClientCompletedInvocation  # the first versions of 1.12 do not export it
from dagster_pipes import PipesExtras


class ReportPipesClient(PipesSubprocessClient):
    """Dagster's `PipesSubprocessClient` for report code; takes the same arguments.

    The run renews the row's lease while the process works. If the report is cancelled, or its lease is lost, the
    process gets SIGINT. It is killed after `termination_timeout_seconds`, or at once if the lease is about to end:
    then another run may make the report. Dagster's client leaves a process that ignores SIGINT running. Call it in the
    main thread, as the report's code is.
    """

    def run(  # type: ignore[override]  # as Dagster's own clients: each has arguments of its own
        self,
        *,
        command: str | Sequence[str],
        context: OpExecutionContext | AssetExecutionContext | None = None,
        extras: PipesExtras | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> PipesClientCompletedInvocation:
        """Run the process to its end; `context` is by default that of the current op or asset.

        Raises `DagsterPipesExecutionError` if its exit code is not 0.
        """
        with open_pipes_session(
            context=context or OpExecutionContext.get(),
            context_injector=self.context_injector,
            message_reader=self.message_reader,
            extras=extras,
        ) as session:
            variables = {**os.environ, **self.env, **(env or {}), **session.get_bootstrap_env_vars()}
            output = None if self.forward_stdio else subprocess.DEVNULL
            process = subprocess.Popen(  # noqa: S603
                command, cwd=cwd or self.cwd, env=variables, stdout=output, stderr=output
            )
            try:
                code = process.wait()
            except BaseException:
                self._end(process)
                raise
            if code:
                raise DagsterPipesExecutionError(f"The external process failed with code {code}.")
        return PipesClientCompletedInvocation(session)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        try:
            if self.forward_termination:
                process.send_signal(signal.SIGINT)
                process.wait(self.termination_timeout_seconds)
        except subprocess.TimeoutExpired:
            pass  # it ignores the signal
        finally:
            # The wait may be interrupted, too: then no time is left.
            process.kill()
            process.wait()
