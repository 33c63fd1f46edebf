"""Dagster's Kubernetes launcher under the faults of a daemon life."""

from __future__ import annotations

from dagster._core.launcher.base import LaunchRunContext
from dagster_k8s import K8sRunLauncher

from tools.chaos.launcher import suffer


class FaultyK8sRunLauncher(K8sRunLauncher):
    """Dagster's."""

    def launch_run(self, context: LaunchRunContext) -> None:
        """Launch, or suffer."""
        suffer(context.dagster_run)
        super().launch_run(context)
