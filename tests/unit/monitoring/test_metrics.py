"""The server's series: names, labels, values as a scrape shows them."""

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from visionyard.monitoring import metrics as module
from visionyard.monitoring.metrics import ServingMetrics


def scrape(metrics: ServingMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_phases_are_timed_in_seconds() -> None:
    metrics = ServingMetrics()
    metrics.observe_phase("digits", "decode", 0.004)
    with pytest.raises(ValueError, match="boom"), metrics.timed("digits", "infer"):
        raise ValueError("boom")
    with metrics.timed("digits", "infer"):
        pass
    found = scrape(metrics)
    decode = (("model", "digits"), ("phase", "decode"))
    assert found["visionyard_serving_phase_seconds_sum", decode] == pytest.approx(0.004)
    buckets = {
        float(dict(labels)["le"]): value
        for (name, labels), value in found.items()
        if name == "visionyard_serving_phase_seconds_bucket" and ("phase", "decode") in labels
    }
    assert (min(buckets), sorted(buckets)[-2]) == (0.0005, 10.0)
    assert (buckets[0.003], buckets[0.005]) == (0, 1)
    assert found["visionyard_serving_phase_seconds_count", (("model", "digits"), ("phase", "infer"))] == 1


def test_requests_and_errors_are_counted() -> None:
    metrics = ServingMetrics()
    for status in ("200", "200", "503"):
        metrics.observe_request("digits", protocol="http", status=status, seconds=0.01)
    metrics.count_error("digits", KeyError("x"))
    found = scrape(metrics)
    labels = (("model", "digits"), ("protocol", "http"))
    assert found["visionyard_serving_requests_total", (*labels, ("status", "200"))] == 2
    assert found["visionyard_serving_requests_total", (*labels, ("status", "503"))] == 1
    assert found["visionyard_serving_request_seconds_count", labels] == 3
    assert found["visionyard_serving_errors_total", (("error", "KeyError"), ("model", "digits"))] == 1


def test_a_model_is_shown_while_it_is_served() -> None:
    metrics = ServingMetrics()
    what = {"digest": "d" * 64, "format": "onnx", "device": "cpu"}
    metrics.show_model("digits", **what)
    key = ("visionyard_serving_model_info", tuple(sorted({"model": "digits", **what}.items())))
    assert scrape(metrics)[key] == 1
    metrics.hide_model("digits", **what)
    assert key not in scrape(metrics)


def test_the_process_is_shown_and_servers_do_not_meet() -> None:
    first, second = ServingMetrics(), ServingMetrics()
    first.batch_size.labels("digits").observe(3)
    assert scrape(first)["process_resident_memory_bytes", ()] > 1e6
    assert ("visionyard_serving_batch_size_count", (("model", "digits"),)) not in scrape(second)
    registry = CollectorRegistry()
    assert ServingMetrics(registry).registry is registry


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        pytest.param("100\n28\n", 128 * 2**20, id="two GPUs"),
        pytest.param("[N/A]\n", float("nan"), id="not told"),
        pytest.param(None, float("nan"), id="fails"),
    ],
)
def test_gpu_memory_is_asked_at_most_every_ten_seconds(
    answer: str | None, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    now = 100.0

    def run(command: list[str], **options: object) -> object:
        asked.append(command)
        if answer is None:
            raise OSError("no driver")
        return type("Done", (), {"stdout": answer})

    monkeypatch.setattr(module.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(module.subprocess, "run", run)
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    metrics = ServingMetrics()
    for _ in range(3):
        assert scrape(metrics)["visionyard_serving_gpu_memory_bytes", ()] == pytest.approx(value, nan_ok=True)
    assert len(asked) == 1
    now = 110.0
    scrape(metrics)
    assert len(asked) == 2
