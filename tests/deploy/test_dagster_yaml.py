"""Each dagster.yaml of deploy/: Dagster accepts it, and its launchers and logs are made as it says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import kubernetes_validate
import psycopg
import pytest
import yaml
from dagster import DagsterInstance, job, op
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.instance.config import dagster_instance_config
from dagster._core.launcher.base import LaunchRunContext
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.test_utils import create_run_for_test
from dagster_k8s import K8sRunLauncher
from kubernetes.client import ApiClient
from psycopg import sql

from reportqueue.conf import Conf
from tests.deploy.files import DEPLOY, KUBERNETES, applied, document, keys, named, secrets
from tools.runner.postgres import create_database, for_dagster, with_database

FILES = sorted(DEPLOY.rglob("dagster.yaml"))
IMAGE = "registry.example.com/reports-dagster:1.0.0"
CLUSTER = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "test",
    "clusters": [{"name": "test", "cluster": {"server": "http://127.0.0.1:9"}}],
    "users": [{"name": "test", "user": {}}],
    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
}


class Recorder:
    """Stands in for Kubernetes' API for Jobs, and keeps each Job that it gets."""

    def __init__(self) -> None:
        self.jobs: list[tuple[str, Any]] = []

    def create_namespaced_job(self, *, body: Any, namespace: str, _request_timeout: float) -> None:
        self.jobs.append((namespace, ApiClient().sanitize_for_serialization(body)))


@op
def make() -> None: ...


@job
def reports() -> None:
    make()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAGSTER_DATABASE_URL", "postgresql+psycopg2://dagster@127.0.0.1:9/dagster")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    return tmp_path


def test_there_are_some():
    names = {str(path.relative_to(DEPLOY)) for path in FILES}
    assert {
        "dagster.yaml",
        "docker/dagster.yaml",
        "kubernetes/dagster.yaml",
        "kubernetes/migrations/dagster.yaml",
    } <= names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_dagster_accepts_it(path: Path, home: Path):
    (home / "dagster.yaml").write_text(path.read_text())
    read, _ = dagster_instance_config(str(home))
    assert read["storage"] == {"postgres": {"postgres_url": {"env": "DAGSTER_DATABASE_URL"}}}


def test_a_wrong_key_is_found(home: Path):
    text = (DEPLOY / "dagster.yaml").read_text().replace("use_threads: true", "use_thread: true")
    (home / "dagster.yaml").write_text(text)
    with pytest.raises(Exception, match="use_thread"):
        dagster_instance_config(str(home))


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.parent.name != "migrations"], ids=lambda path: str(path.relative_to(DEPLOY))
)
def test_sensors_may_wait_and_runs_may_wait_to_start(path: Path):
    read = document(path)
    assert read["sensors"]["use_threads"] is True
    assert read["sensors"]["num_workers"] >= 8
    assert read["run_monitoring"]["enabled"] is True
    assert read["run_monitoring"]["start_timeout_seconds"] >= Conf().dispatch_lease_seconds
    assert read["telemetry"] == {"enabled": False}


@pytest.fixture
def instance(home: Path) -> Iterator[DagsterInstance]:
    """That of Kubernetes, with a storage and a cluster of this test."""
    read = document(KUBERNETES / "dagster.yaml")
    (home / "cluster.yaml").write_text(yaml.safe_dump(CLUSTER))
    del read["storage"]
    read["run_launcher"]["config"] |= {"load_incluster_config": False, "kubeconfig_file": str(home / "cluster.yaml")}
    (home / "dagster.yaml").write_text(yaml.safe_dump(read))
    with DagsterInstance.get() as made:
        yield made


def test_a_run_on_kubernetes_is_a_job_that_kubernetes_accepts(instance: DagsterInstance):
    launcher, recorder = instance.run_launcher, Recorder()
    assert isinstance(launcher, K8sRunLauncher)
    launcher._api_client.batch_api = recorder
    origin = JobPythonOrigin(
        job_name="reports",
        repository_origin=RepositoryPythonOrigin(
            executable_path=sys.executable,
            code_pointer=ModuleCodePointer("tests.deploy.test_dagster_yaml", "reports", os.getcwd()),
            container_image=IMAGE,
        ),
    )
    run = create_run_for_test(instance, job_name="reports", job_code_origin=origin)
    launcher.launch_run(LaunchRunContext(run, workspace=None))
    ((namespace, made),) = recorder.jobs
    kubernetes_validate.validate(made, kubernetes_validate.latest_version(), strict=True)
    assert namespace == "reports"
    pod = made["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == IMAGE
    resources = [*applied(KUBERNETES), *secrets()]
    assert pod["serviceAccountName"] in named(resources, "ServiceAccount")
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    variables = {variable["name"] for variable in container["env"]}
    for source in container["envFrom"]:
        for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            if source.get(field):
                variables |= keys(named(resources, kind)[source[field]["name"]])
    assert {"DAGSTER_HOME", "DAGSTER_DATABASE_URL", "REPORTQUEUE_URL", "REPORTQUEUE_TOKEN"} <= variables
    assert container["args"][1:5] == ["-m", "dagster", "api", "execute_run"]
    assert "instance_ref" in container["args"][5], "the run has no dagster.yaml of its own"
    assert launcher.instance_config_map in named(resources, "ConfigMap")
    assert made["spec"]["backoffLimit"] == 0


def test_the_logs_of_kubernetes_are_those_of_the_pods(instance: DagsterInstance):
    assert type(instance.compute_log_manager).__name__ == "NoOpComputeLogManager"
    assert type(instance.run_coordinator).__name__ == "QueuedRunCoordinator"
    assert instance.run_monitoring_start_timeout_seconds == 3600


def test_the_job_that_migrates_dagsters_database_needs_nothing_of_kubernetes(home: Path):
    name = f"deploy_{uuid4().hex[:12]}"
    url = with_database(os.environ["DATABASE_URL"], name)
    create_database(url)
    (home / "dagster.yaml").write_text((KUBERNETES / "migrations" / "dagster.yaml").read_text())
    (job,) = [one for one in applied(KUBERNETES / "migrations") if one["metadata"]["name"] == "migrate-dagster"]
    program, *arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
    try:
        done = subprocess.run(
            [str(Path(sys.executable).parent / program), *arguments],
            env=os.environ | {"DAGSTER_DATABASE_URL": for_dagster(url)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        with psycopg.connect(url) as connection:
            made = connection.execute("SELECT to_regclass('runs'), to_regclass('event_logs')").fetchone()
        assert made == ("runs", "event_logs")
    finally:
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
