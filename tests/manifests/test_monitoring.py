"""Alert rules and dashboard: they name series that exist, every alert has its page, and the rules do what they say."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics_core import Metric

from visionyard.monitoring.metrics import ServingMetrics

ROOT = Path(__file__).parents[2]
RULES = ROOT / "manifests/monitoring/alerts.yaml"
DASHBOARD = ROOT / "manifests/monitoring/dashboard.json"
RUNBOOKS = ROOT / "docs/runbooks"
RULE_TESTS = ROOT / "tests/manifests/alerts.test.yaml"
# Of Prometheus itself, of its process collector (Linux only), and of the server where there is a GPU.
_ELSEWHERE = {
    "up",
    "ALERTS",
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
    "process_start_time_seconds",
}
_ON_GPU_ONLY = {"visionyard_serving_gpu_memory_bytes"}
_SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}

ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]
]
PANELS: list[dict[str, Any]] = [
    panel for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"] if panel["type"] != "row"
]


def _series() -> dict[str, set[str]]:
    """Return every series of the server with its labels."""
    metrics = ServingMetrics()
    found: dict[str, set[str]] = {}
    for collector in vars(metrics).values():
        if not hasattr(collector, "_labelnames"):
            continue
        (family,) = collector.describe()
        assert isinstance(family, Metric)
        for suffix in _SUFFIXES[family.type]:
            found[family.name + suffix] = {*collector._labelnames, *(["le"] if suffix == "_bucket" else [])}
    return found


SERIES = _series()
_SERIES_LABELS = {"job", "instance", "namespace", "alertname", "alertstate"}


def _names(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:visionyard_serving_\w+|process_\w+|up(?=\{)|ALERTS)", expression))


def _selected_labels(expression: str) -> list[tuple[str, set[str]]]:
    """Return the labels that each series of an expression is selected by."""
    return [
        (name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", labels)))
        for name, labels in re.findall(r"(visionyard_serving_\w+)\{([^}]*)\}", expression)
    ]


EXPRESSIONS = [
    *(pytest.param(rule["expr"], id=rule["alert"]) for rule in ALERTS),
    *(
        pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
        for panel in PANELS
        for target in panel["targets"]
    ),
]


def test_the_series_of_the_server_are_found() -> None:
    assert SERIES["visionyard_serving_request_seconds_bucket"] == {"model", "protocol", "le"}
    assert SERIES["visionyard_serving_drift_detected"] == {"model", "feature"}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_series_exists(expression: str) -> None:
    names = _names(expression)

    assert names
    assert names <= {*SERIES, *_ELSEWHERE, *_ON_GPU_ONLY}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_label_exists(expression: str) -> None:
    for name, labels in _selected_labels(expression):
        known = SERIES.get(name, set()) | _SERIES_LABELS
        assert labels <= known, f"{name} has no label {labels - known}"


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_is_complete_and_has_its_page(alert: dict[str, Any]) -> None:
    notes = alert["annotations"]

    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert set(notes) == {"summary", "description", "runbook_url"}
    assert "$value" in notes["description"] or alert["alert"] == "VisionyardServerDown"
    assert notes["runbook_url"] == f"docs/runbooks/{alert['alert']}.md"
    page = (ROOT / notes["runbook_url"]).read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", page, re.MULTILINE)
    assert page.startswith(f"# {alert['alert']}\n")
    assert headings == ["What it means", "How to see it", "What to do"]


def test_every_page_belongs_to_an_alert_and_its_links_lead_somewhere() -> None:
    pages = sorted(RUNBOOKS.glob("*.md"))

    assert {page.stem for page in pages} == {alert["alert"] for alert in ALERTS}
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_alert_has_a_unit_test() -> None:
    tests = yaml.safe_load(RULE_TESTS.read_text(encoding="utf-8"))["tests"]
    fired = {check["alertname"] for test in tests for check in test["alert_rule_test"] if check["exp_alerts"]}

    assert fired == {alert["alert"] for alert in ALERTS}


def test_the_dashboard_shows_what_there_is_and_overlaps_nowhere() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + column, place["y"] + line) for column in range(place["w"]) for line in range(place["h"])}
        assert max(column for column, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
    shown = " ".join(target["expr"] for panel in PANELS for target in panel["targets"])
    families = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in SERIES}
    missing = {family for family in families if family not in shown}
    assert not missing, f"no panel shows {missing}"


def _promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("needs promtool (apt-get install prometheus)")
    return subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_prometheus_takes_the_rules() -> None:
    result = _promtool("check", "rules", str(RULES))

    assert result.returncode == 0, result.stdout + result.stderr


def test_the_alerts_fire_when_they_should_and_only_then() -> None:
    result = _promtool("test", "rules", str(RULE_TESTS))

    assert result.returncode == 0, result.stdout + result.stderr


def test_prometheus_reads_the_dashboards_expressions(tmp_path: Path) -> None:
    expressions = [target["expr"] for panel in PANELS for target in panel["targets"]]
    for variable, value in (("$__rate_interval", "5m"), ("$model", ".*"), ("$instance", ".*")):
        expressions = [expression.replace(variable, value) for expression in expressions]
    rules = [{"record": f"panel_{number}", "expr": expression} for number, expression in enumerate(expressions)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))

    result = _promtool("check", "rules", str(tmp_path / "rules.yaml"))

    assert result.returncode == 0, result.stdout + result.stderr
