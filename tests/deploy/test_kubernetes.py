"""deploy/kubernetes: Kubernetes accepts each resource, and what they name of each other exists."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from reportqueue import gunicorn, health
from tests.deploy.files import (
    KUBERNETES,
    MIGRATIONS,
    Resource,
    applied,
    document,
    keys,
    named,
    pods,
    secrets,
    settings_of_pgbouncer,
    tags,
)

OLDEST = "1.30"
"""Of Kubernetes: older ones are no longer maintained."""
ALL = [*applied(KUBERNETES), *applied(MIGRATIONS)]
EVERY = [*ALL, *secrets()]
PODS = dict(pods(ALL))
CONTAINERS = {name: template["spec"]["containers"][0] for name, template in PODS.items()}
HOSTS = {
    f"{name}:{port['port']}": port
    for name, service in named(ALL, "Service").items()
    for port in service["spec"]["ports"]
}


def titles(resources: list[Resource]) -> list[str]:
    return [f"{one['kind']}-{one['metadata']['name']}" for one in resources]


def matched(selector: Mapping[str, str]) -> list[str]:
    """The pods with these labels."""
    return [name for name, pod in PODS.items() if selector.items() <= pod["metadata"]["labels"].items()]


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
@pytest.mark.parametrize("resource", EVERY, ids=titles(EVERY))
def test_kubernetes_accepts_each_resource(resource: Resource, version: str):
    kubernetes_validate.validate(resource, version, strict=True)


def test_a_field_that_kubernetes_does_not_know_is_found():
    (web,) = [one for one in ALL if one["kind"] == "Deployment" and one["metadata"]["name"] == "web"]
    wrong = {**web, "spec": {**web["spec"], "replica": 2}}
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(wrong, OLDEST, strict=True)


@pytest.mark.parametrize("folder", [KUBERNETES, MIGRATIONS], ids=lambda folder: folder.name)
def test_each_file_of_the_folder_is_applied_or_is_an_example(folder: Path):
    chosen = document(folder / "kustomization.yaml")
    made = {name for one in chosen["configMapGenerator"] for name in one["files"]}
    examples = {"kustomization.yaml", "secrets.example.yaml", "values.yaml"}
    there = {path.name for path in folder.iterdir() if path.is_file()}
    assert there - examples == {*chosen["resources"], *made}


def test_only_the_namespace_that_exists_is_named():
    (namespace,) = named(ALL, "Namespace")
    for folder in (KUBERNETES, MIGRATIONS):
        assert document(folder / "kustomization.yaml")["namespace"] == namespace
    for secret in secrets():
        assert secret["metadata"]["namespace"] == namespace
    for binding in named(ALL, "RoleBinding").values():
        assert [subject["namespace"] for subject in binding["subjects"]] == [namespace]
    assert document(KUBERNETES / "dagster.yaml")["run_launcher"]["config"]["job_namespace"] == namespace


def references(node: Any) -> Iterator[tuple[str, str]]:
    """The kind and name of each ConfigMap and Secret that a pod's template names."""
    if isinstance(node, list):
        for one in node:
            yield from references(one)
    elif isinstance(node, dict):
        for field, value in node.items():
            if field in ("configMapRef", "configMapKeyRef", "configMap"):
                yield "ConfigMap", value["name"]
            elif field in ("secretRef", "secretKeyRef", "secret"):
                yield "Secret", value.get("name") or value["secretName"]
            else:
                yield from references(value)


@pytest.mark.parametrize("name", PODS)
def test_each_map_secret_volume_and_account_of_a_pod_exists(name: str):
    pod = PODS[name]["spec"]
    for kind, wanted in references(pod):
        assert wanted in named(EVERY, kind), f"{name} names the {kind} {wanted}"
    volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
    for mount in CONTAINERS[name].get("volumeMounts", []):
        volume = volumes.pop(mount["name"], None) or next(v for v in pod["volumes"] if v["name"] == mount["name"])
        if "configMap" in volume and "subPath" in mount:
            assert mount["subPath"] in keys(named(EVERY, "ConfigMap")[volume["configMap"]["name"]])
        if "persistentVolumeClaim" in volume:
            assert volume["persistentVolumeClaim"]["claimName"] in named(ALL, "PersistentVolumeClaim")
    assert not volumes, "nothing mounts these"
    account = pod.get("serviceAccountName")
    assert account in (None, *named(ALL, "ServiceAccount"))
    assert (account is None) == (pod.get("automountServiceAccountToken") is False), "only who needs the API has a token"


def test_no_map_and_no_secret_is_left_over():
    used = {reference for pod in PODS.values() for reference in references(pod["spec"])}
    used |= {("Secret", tls["secretName"]) for one in named(ALL, "Ingress").values() for tls in one["spec"]["tls"]}
    for kind in ("ConfigMap", "Secret"):
        assert set(named(EVERY, kind)) == {name for found, name in used if found == kind}


def test_selectors_find_the_pods_that_they_mean():
    for name, deployment in named(ALL, "Deployment").items():
        assert matched(deployment["spec"]["selector"]["matchLabels"]) == [name]
    for name, service in named(ALL, "Service").items():
        assert matched(service["spec"]["selector"]) == [name]
        ports = {port["name"] for port in CONTAINERS[name]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    budgets = named(ALL, "PodDisruptionBudget")
    assert "web" in budgets
    for name, budget in budgets.items():
        assert matched(budget["spec"]["selector"]["matchLabels"]) == [name]
        replicas = named(ALL, "Deployment")[name]["spec"]["replicas"]
        assert budget["spec"]["minAvailable"] < replicas, "otherwise no node could be drained"
    for ingress in named(ALL, "Ingress").values():
        (rule,) = ingress["spec"]["rules"]
        (path,) = rule["http"]["paths"]
        service = named(ALL, "Service")[path["backend"]["service"]["name"]]
        assert path["backend"]["service"]["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}


def test_accounts_have_the_roles_that_exist_and_no_run_has_one():
    roles, accounts = named(ALL, "Role"), named(ALL, "ServiceAccount")
    bound = {}
    for binding in named(ALL, "RoleBinding").values():
        assert binding["roleRef"]["name"] in roles
        for subject in binding["subjects"]:
            bound[subject["name"]] = binding["roleRef"]["name"]
    assert bound == {"dagster": "launch-runs", "dagster-code": "end-runs"}
    assert set(accounts) == {*bound, "dagster-run"}
    creators = [name for name, role in roles.items() if any("create" in rule["verbs"] for rule in role["rules"])]
    assert creators == ["launch-runs"]


def test_the_services_that_addresses_name_exist_and_the_ports_are_theirs():
    code = document(KUBERNETES / "workspace.yaml")["load_from"][0]["grpc_server"]
    assert f"{code['host']}:{code['port']}" in HOSTS
    settings = named(ALL, "ConfigMap")["web-settings"]["data"]
    assert urlsplit(settings["DAGSTER_URL"]).netloc in HOSTS
    web = named(secrets(), "Secret")["web"]["stringData"]
    assert urlsplit(web["DATABASE_URL"]).netloc.partition("@")[2] in HOSTS
    pgbouncer = settings_of_pgbouncer(KUBERNETES / "pgbouncer.ini")
    assert f"pgbouncer:{pgbouncer['listen_port']}" in HOSTS
    for name, service in named(ALL, "Service").items():
        ports = {str(port["containerPort"]) for port in CONTAINERS[name]["ports"]}
        assert {str(port["port"]) for port in service["spec"]["ports"]} == ports
        if name != "pgbouncer":
            said = " ".join(CONTAINERS[name]["args"])
            assert any(re.search(rf"[: ]{port}\b", said) for port in ports), f"{name} does not listen there: {said}"


def test_dagsters_calls_and_people_use_one_address():
    maps = named(ALL, "ConfigMap")
    url = urlsplit(maps["dagster-settings"]["data"]["REPORTQUEUE_URL"])
    web = maps["web-settings"]["data"]
    (ingress,) = named(ALL, "Ingress").values()
    assert [rule["host"] for rule in ingress["spec"]["rules"]] == [url.hostname] == web["ALLOWED_HOSTS"].split(",")
    assert ingress["spec"]["tls"][0]["hosts"] == [url.hostname]
    assert web["CSRF_TRUSTED_ORIGINS"] == f"{url.scheme}://{url.hostname}"
    assert (url.scheme, web["BEHIND_TLS"]) == ("https", "1")


def test_migrations_and_listen_go_around_the_pool():
    urls = {name: secret["stringData"] for name, secret in named(secrets(), "Secret").items()}
    pooled, direct = urlsplit(urls["web"]["DATABASE_URL"]), urlsplit(urls["web"]["LISTEN_DATABASE_URL"])
    assert (pooled.hostname, pooled.path) == ("pgbouncer", direct.path)
    assert direct.hostname != "pgbouncer"
    assert urls["migrations"]["DATABASE_URL"] == urls["web"]["LISTEN_DATABASE_URL"]
    assert urlsplit(urls["dagster"]["DAGSTER_DATABASE_URL"]).hostname == direct.hostname


def test_the_probes_of_the_web_app_exist_and_its_pods_have_time_to_end():
    web, pod = CONTAINERS["web"], PODS["web"]["spec"]
    probes = {kind: web[f"{kind}Probe"]["httpGet"]["path"].lstrip("/") for kind in ("liveness", "readiness", "startup")}
    assert probes == {"liveness": "healthz", "readiness": "readyz", "startup": "healthz"}
    assert set(probes.values()) <= {str(pattern.pattern) for pattern in health.urlpatterns}
    pause = int(web["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > pause + gunicorn.graceful_timeout
    assert named(ALL, "Deployment")["web"]["spec"]["replicas"] >= 2
    for name in named(ALL, "Deployment"):
        assert PODS[name]["spec"]["terminationGracePeriodSeconds"] > 30


@pytest.mark.parametrize("name", PODS)
def test_no_pod_is_root_and_each_says_what_it_needs(name: str):
    pod, container = PODS[name]["spec"], CONTAINERS[name]
    assert len(pod["containers"]) == 1
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] >= 10_000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert set(container["resources"]["requests"]) == {"cpu", "memory"}


def test_each_image_has_a_tag_the_same_everywhere_and_runs_have_that_of_their_code():
    images = {container["image"] for container in CONTAINERS.values()}
    assert images == {*tags(KUBERNETES), *tags(MIGRATIONS)}
    assert tags(MIGRATIONS).items() <= tags(KUBERNETES).items()
    (current,) = [one for one in CONTAINERS["dagster-code"]["env"] if one["name"] == "DAGSTER_CURRENT_IMAGE"]
    assert current["value"] == CONTAINERS["dagster-code"]["image"]


def test_the_chart_has_the_same_values():
    chart, instance = document(KUBERNETES / "values.yaml"), document(KUBERNETES / "dagster.yaml")
    daemon, launcher = chart["dagsterDaemon"], chart["runLauncher"]["config"]["k8sRunLauncher"]
    ours = instance["run_launcher"]["config"]
    assert daemon["sensors"] == {"useThreads": True, "numWorkers": 8, "numSubmitWorkers": 4}
    assert instance["sensors"] == {"use_threads": True, "num_workers": 8, "num_submit_workers": 4}
    assert daemon["runMonitoring"]["startTimeoutSeconds"] == instance["run_monitoring"]["start_timeout_seconds"]
    runs = daemon["runCoordinator"]["config"]["queuedRunCoordinator"]["maxConcurrentRuns"]
    assert runs == instance["concurrency"]["runs"]["max_concurrent_runs"]
    assert [one["name"] for one in launcher["envConfigMaps"]] == ours["env_config_maps"]
    assert [one["name"] for one in launcher["envSecrets"]] == ours["env_secrets"]
    assert launcher["resources"] == ours["resources"]
    assert launcher["imagePullPolicy"] == ours["image_pull_policy"]
    assert launcher["runK8sConfig"]["jobSpecConfig"] == {"backoffLimit": 0, "ttlSecondsAfterFinished": 3600}
    assert chart["global"]["dagsterHome"] == ours["dagster_home"]
    kept = instance["retention"]["sensor"]["purge_after_days"]
    assert kept.items() <= chart["retention"]["sensor"]["purgeAfterDays"].items()
    (code,) = chart["dagster-user-deployments"]["deployments"]
    assert code["port"] == document(KUBERNETES / "workspace.yaml")["load_from"][0]["grpc_server"]["port"]
    assert code["dagsterApiGrpcArgs"] == CONTAINERS["dagster-code"]["args"][3:5]
    assert {name: code["image"][name] for name in ("repository", "tag")} == {
        "repository": CONTAINERS["dagster-code"]["image"],
        "tag": tags(KUBERNETES)[CONTAINERS["dagster-code"]["image"]],
    }
    url = urlsplit(named(secrets(), "Secret")["dagster"]["stringData"]["DAGSTER_DATABASE_URL"])
    assert chart["postgresql"]["postgresqlScheme"] == url.scheme
    assert chart["postgresql"]["postgresqlHost"] == url.hostname


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl, which has Kustomize, is not installed")
@pytest.mark.parametrize("folder", [KUBERNETES, MIGRATIONS], ids=lambda folder: folder.name)
def test_kustomize_builds_what_kubernetes_accepts(folder: Path):
    built = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    resources = list(yaml.safe_load_all(built.stdout))
    assert sorted(titles(resources)) == sorted(titles(applied(folder)))
    for one in resources:
        kubernetes_validate.validate(one, OLDEST, strict=True)
        assert one["kind"] == "Namespace" or one["metadata"]["namespace"] == "reports"
    for name, pod in pods(resources):
        (container,) = pod["spec"]["containers"]
        image, _, tag = container["image"].rpartition(":")
        assert tag == tags(folder)[image]
        for variable in container.get("env", []):
            if variable["name"] == "DAGSTER_CURRENT_IMAGE":
                assert (name, variable["value"]) == ("dagster-code", container["image"])
