"""Dagster's Kubernetes launcher under the faults of a daemon life."""

from __future__ import annotations

from dagster_k8s import K8sRunLauncher

from tools.chaos.launcher import Faulty


class FaultyK8sRunLauncher(Faulty, K8sRunLauncher):
    """Dagster's."""
