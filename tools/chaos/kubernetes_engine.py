"""Kubernetes as the engine: Dagster's launcher, and a stand-in for a cluster with two nodes."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import psutil

from tools.chaos import points
from tools.chaos.cluster import Cluster, Node
from tools.chaos.hosts import CUT_SECONDS, EngineOnHosts, Host
from tools.chaos.link import ask

PLACE_SECONDS = 0.05
"""How often pods that wait are given nodes."""


class _Pod:
    """A pod's process: a child of the warm parent, which executes the command of the pod's container."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        answers = ask(request)
        self.pid: int = json.loads(answers.readline())["pid"]
        self._code: int | None = None
        threading.Thread(target=self._wait, args=[answers], name=f"pod-{self.pid}", daemon=True).start()

    def exit_code(self) -> int | None:
        return self._code

    def _wait(self, answers: Any) -> None:
        with answers:
            said = json.loads(answers.readline() or b'{"signal": 9, "code": 1}')
        self._code = -said["signal"] or said["code"]


class KubernetesEngine(EngineOnHosts):
    """What `run.py chaos --engine kubernetes` uses."""

    name = points.KUBERNETES

    def prepare(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Start the API."""
        for name in ("one", "two"):
            self.hosts.append(Host(name, self.system.proxy.url, environment["DAGSTER_DATABASE_URL"]))
        nodes = [Node(host.name, self.slots // 2) for host in self.hosts]
        self._cluster = Cluster(nodes, self._start_pod)
        kubeconfig = self.system.folder / "kubeconfig"
        kubeconfig.write_text(self._cluster.kubeconfig)
        self.launcher = (
            "{module: tools.chaos.kubernetes_launcher, class: FaultyK8sRunLauncher, config: {load_incluster_config: "
            f'false, kubeconfig_file: "{kubeconfig}", dagster_home: "{environment["DAGSTER_HOME"]}", service_account_'
            "name: chaos, instance_config_map: chaos, job_image: chaos, job_namespace: chaos, run_k8s_config: "
            "{job_spec_config: {backoff_limit: 0}}}}"
        )
        self._closed = threading.Event()
        self._held = False
        self._scheduler = threading.Thread(target=self._place, name="pods", daemon=True)
        return {}

    def start(self, environment: Mapping[str, str]) -> None:
        """Place pods."""
        self._scheduler.start()

    def close(self) -> None:
        """No API any more."""
        self._closed.set()
        self._cluster.close()
        super().close()

    def runs_on(self, host: Host) -> list[int]:
        """The pods' processes."""
        return [process.pid for process in self._cluster.pods_on(self._node(host))]

    def kill(self, host: Host) -> None:
        """All pods of the node die, and no further ones are placed there."""
        self._node(host).ready = False
        for pid in self.runs_on(host):
            with suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()

    def revive(self, host: Host) -> None:
        """It is ready again."""
        self._node(host).ready = True

    def hold(self) -> None:
        """All pods stay Pending."""
        self._held = True

    def release(self) -> None:
        """There is room again."""
        self._held = False

    def _further(self) -> tuple[Callable[[list[int]], None], ...]:
        return self._take_api_away, self._leave_pending

    def _take_api_away(self, rows: list[int]) -> None:
        self.system.ledger.fault(points.API_AWAY, rows)
        self._cluster.away = True
        time.sleep(self.system.chance.uniform(1.0, CUT_SECONDS))
        self._cluster.away = False

    def _leave_pending(self, rows: list[int]) -> None:
        self.system.ledger.fault(points.PODS_PENDING, rows)
        self.hold()
        time.sleep(CUT_SECONDS)
        self.release()

    def _node(self, host: Host) -> Node:
        return next(node for node in self._cluster.nodes if node.name == host.name)

    def _place(self) -> None:
        while not self._closed.wait(PLACE_SECONDS):
            if not self._held:
                with suppress(OSError, ValueError):  # the warm parent is ending
                    self._cluster.place_pods()

    def _start_pod(self, node: Node, job: dict[str, Any]) -> _Pod:
        host = next(one for one in self.hosts if one.name == node.name)
        run = job["spec"]["template"]["metadata"]["labels"]["dagster/run-id"]
        arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
        return _Pod({"op": "pod", "run": run, "arguments": arguments, "environment": host.environment})
