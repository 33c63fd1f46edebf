"""The engines by their names."""

from __future__ import annotations

from tools.chaos.celery_engine import CeleryEngine
from tools.chaos.engine import Engine, WarmEngine
from tools.chaos.kubernetes_engine import KubernetesEngine

ENGINES: dict[str, type[Engine]] = {one.name: one for one in (Engine, WarmEngine, CeleryEngine, KubernetesEngine)}
