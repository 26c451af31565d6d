"""compose.yaml: its services know each other, what it mounts is there, and it agrees with the chart."""

import re
from typing import Any

import pytest
import yaml

from charts import make_chart
from visionyard import __version__

ROOT = make_chart.ROOT
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
VALUES: dict[str, Any] = yaml.safe_load((make_chart.CHART / "values.yaml").read_text(encoding="utf-8"))
# The Compose Specification's keys of a service that this file uses; another key is a typo until it is added here.
_KEYS = {
    *("image", "command", "entrypoint", "environment", "ports", "volumes", "depends_on", "restart", "healthcheck"),
    *("pull_policy", "read_only", "tmpfs", "cap_drop", "security_opt"),
}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_complete(name: str) -> None:
    service = SERVICES[name]

    assert set(service) <= _KEYS
    assert not re.search(r":latest$|^[^:]+$", service["image"]), "an image without a version"
    assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", []))
    assert set(service.get("depends_on", [])) <= set(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_mounts_is_there(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source = volume["source"] if isinstance(volume, dict) else volume.partition(":")[0]
        if source.startswith("./"):
            assert (ROOT / source).exists(), source
        elif not source.startswith("${"):
            assert source in COMPOSE["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_our_own_images_are_looked_for_here_alone(name: str) -> None:
    is_ours = SERVICES[name]["image"].startswith("visionyard/")

    assert (SERVICES[name].get("pull_policy") == "never") == is_ours


def test_images_are_those_of_the_chart() -> None:
    images = {name: service["image"] for name, service in SERVICES.items()}

    assert images["store"] == VALUES["store"]["minio"]["image"]
    assert images["mlflow"] == VALUES["mlflow"]["image"]
    assert images["database"] == VALUES["postgresql"]["image"]
    assert images["server"] == f"{VALUES['image']['serve']}:{__version__}"
    assert images["buckets"] == f"{VALUES['image']['data']}:{__version__}"


def test_buckets_are_those_of_the_chart() -> None:
    environment = SERVICES["buckets"]["environment"]

    for role, bucket in VALUES["store"]["buckets"].items():
        assert environment[f"BUCKET_{role.upper()}"] == bucket
    assert f"--artifacts-destination=s3://{VALUES['store']['buckets']['mlflow']}" in SERVICES["mlflow"]["command"]


def test_prometheus_reads_services_that_are_there_under_the_alerts_job() -> None:
    config = yaml.safe_load((ROOT / "manifests/compose/prometheus.yaml").read_text(encoding="utf-8"))
    jobs = {job["job_name"]: job["static_configs"][0]["targets"][0] for job in config["scrape_configs"]}

    assert jobs["visionyard-serving"] == "server:8080"
    assert {target.partition(":")[0] for target in jobs.values()} <= set(SERVICES)


def test_the_bundle_is_a_folder_that_has_to_be_there() -> None:
    """In the short form `runs/x/bundle` would name a volume, and a folder that is not there would be made, empty."""
    (volume,) = SERVICES["server"]["volumes"]

    assert (volume["type"], volume["bind"]) == ("bind", {"create_host_path": False})
    assert re.fullmatch(r"\$\{BUNDLE:-\./[\w-]+\}", volume["source"])


def test_no_variable_is_required() -> None:
    """One that is would be asked for by `down`, `ps` and `logs` too."""
    assert not re.search(r"\$\{\w+:?\?", (ROOT / "compose.yaml").read_text(encoding="utf-8"))


def test_the_database_counts_as_ready_only_when_it_is_reached_by_tcp() -> None:
    assert "--host=127.0.0.1" in SERVICES["database"]["healthcheck"]["test"]


@pytest.mark.parametrize("name", ["database", "mlflow", "server"])
def test_what_is_slow_to_start_is_waited_for(name: str) -> None:
    check = SERVICES[name]["healthcheck"]

    assert check["test"][0] == "CMD"
    assert int(check["interval"].removesuffix("s")) * check["retries"] >= 120
