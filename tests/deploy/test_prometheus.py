"""The files for Prometheus and Grafana: accepted, and about metrics that the code has; a real scrape."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from prometheus_client.parser import text_string_to_metric_families

from dagster_reportqueue import counters
from reportqueue.metrics import page
from reportqueue.metrics.families import Collector
from tests.conftest import build_row
from tests.dagster_reportqueue.waiting import until
from tests.deploy.files import DEPLOY, document
from tests.integration import webapp
from tests.prometheus import metrics_of, needs_prometheus, promtool, running

FOLDER = DEPLOY / "prometheus"
RULES = FOLDER / "rules.yml"
DASHBOARD = DEPLOY / "grafana" / "reportqueue.json"
PAGES = (DEPLOY.parent / "docs" / "metrics.md").read_text()
TOKEN = "a-token-of-the-tests"


def rules() -> list[dict[str, Any]]:
    """All alerts."""
    return [rule for group in document(RULES)["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """All panels of the dashboard."""
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


@pytest.fixture
def exported(db: None) -> dict[str, str]:
    """The kinds of all metrics of both sides, by their names; those of counters end in `_total`."""
    page.readings.forget()
    found = {}
    for family in Collector(page.readings.get()).collect():
        found[f"{family.name}_total" if family.type == "counter" else family.name] = family.type
    # Before anything has been measured, there is no such time.
    found["reportqueue_measured_until_timestamp_seconds"] = "gauge"
    found |= {counters.PREFIX + name: "counter" for name in counters.COUNTERS}
    return found | {counters.PREFIX + name: "histogram" for name in counters.HISTOGRAMS}


@needs_prometheus
def test_promtool_accepts_the_rules_and_their_tests_pass():
    assert promtool("check", "rules", RULES).returncode == 0
    tested = promtool("test", "rules", FOLDER / "rules_test.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


@needs_prometheus
def test_promtool_accepts_the_configuration(tmp_path: Path):
    token = tmp_path / "token"
    token.write_text(TOKEN)
    config = tmp_path / "prometheus.yml"
    config.write_text((FOLDER / "prometheus.yml").read_text().replace("/etc/prometheus/reportqueue.token", str(token)))
    (tmp_path / "rules.yml").write_text(RULES.read_text())
    checked = promtool("check", "config", config)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    config.write_text(config.read_text().replace("scrape_interval", "scrape_intervall"))
    assert promtool("check", "config", config).returncode != 0


def test_each_alert_is_tested_and_explained():
    names = {rule["alert"] for rule in rules()}
    tests = document(FOLDER / "rules_test.yml")["tests"]
    fired = {one["alertname"] for test in tests for one in test["alert_rule_test"] if one["exp_alerts"]}
    assert names == fired
    operating = (DEPLOY.parent / "docs" / "operating.md").read_text()
    assert [name for name in sorted(names) if f"`{name}`" not in operating] == []


def test_every_metric_of_the_rules_and_the_dashboard_is_exported(exported: dict[str, str]):
    asked = metrics_of(RULES.read_text())
    queries = [target["expr"] for panel in panels() for target in panel.get("targets", [])]
    for query in queries:
        asked |= metrics_of(query)
    assert len(queries) > 20
    assert asked - exported.keys() == set()
    assert metrics_of((FOLDER / "rules_test.yml").read_text()) - exported.keys() == set()


def test_every_metric_is_explained(exported: dict[str, str]):
    explained = dict(re.findall(r"^\| `(reportqueue_\w+)` \| (\w+) \|", PAGES, re.MULTILINE))
    assert explained == exported


def test_the_panels_of_the_dashboard_do_not_overlap():
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        cells = {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in panels()}) == len(panels())


@needs_prometheus
def test_the_queries_of_the_dashboard_are_accepted(tmp_path: Path):
    queries = [target["expr"] for panel in panels() for target in panel.get("targets", [])]
    recorded = [{"record": f"panel:{place}", "expr": query} for place, query in enumerate(queries)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    checked = promtool("check", "rules", file)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@needs_prometheus
@pytest.mark.django_db(transaction=True)
def test_prometheus_reads_a_real_web_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With the shipped configuration, but for the address, the token's file and the interval."""
    monkeypatch.setenv("METRICS_TOKEN", TOKEN)
    monkeypatch.setenv("METRICS_OPEN", "")
    build_row(route="slow")
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    (tmp_path / "rules.yml").write_text(RULES.read_text())
    config = document(FOLDER / "prometheus.yml")
    config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s"}
    with webapp.running() as web:
        own = config["scrape_configs"][0]
        own["authorization"]["credentials_file"] = str(tmp_path / "token")
        own["static_configs"] = [{"targets": [web.url.removeprefix("http://")]}]
        file = tmp_path / "prometheus.yml"
        file.write_text(yaml.safe_dump(config))
        with running(file, tmp_path / "data") as server:
            until(lambda: server.value('up{job="reportqueue"}') == 1, 30)
            until(lambda: server.value('reportqueue_due_rows{route="slow"}') == 1, 10)
            assert server.value("reportqueue_rows{status='queued'}") == 1
            assert server.value("scrape_samples_scraped{job='reportqueue'}") == len(
                [one for family in text_string_to_metric_families(_page(web.url)) for one in family.samples]
            )


def _page(url: str) -> str:
    answer = requests.get(f"{url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10)
    assert answer.status_code == 200
    return answer.text
