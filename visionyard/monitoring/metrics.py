"""The model server's Prometheus series, all named `visionyard_serving_...`.

Every series of a model carries the label `model`. Times are seconds. The process's own memory and processor time come
from prometheus_client's process collector (`process_resident_memory_bytes`, `process_cpu_seconds_total`).
"""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.registry import REGISTRY

Phase = Literal["decode", "preprocess", "queue", "infer", "postprocess"]
PHASES: tuple[Phase, ...] = ("decode", "preprocess", "queue", "infer", "postprocess")

_NAMESPACE = "visionyard_serving"
# From what a cached answer takes to what a client still waits for.
_SECONDS: tuple[float, ...] = (
    0.0005,
    0.001,
    0.002,
    0.003,
    0.005,
    0.0075,
    0.01,
    0.015,
    0.02,
    0.03,
    0.05,
    0.075,
    0.1,
    0.15,
    0.25,
    0.5,
)
_SECONDS += (1.0, 2.5, 5.0, 10.0)
_BATCH_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128)
# nvidia-smi takes some 30 ms to answer, and a scrape must not wait for it each time.
_GPU_INTERVAL_S = 10.0


class ServingMetrics:
    """What a model server counts and times; every method may be called from any thread.

    Attributes:
        registry: What `/metrics` shows.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Make the series.

        Args:
            registry: Where they are registered; None makes a registry of its own, so that several servers in one
                process (as in tests) do not meet. The process's own registry already has the process collector.
        """
        self.registry = CollectorRegistry() if registry is None else registry
        if self.registry is not REGISTRY:
            ProcessCollector(registry=self.registry)
        self._make_request_series()
        self._make_model_series()
        self._make_watching_series()
        if shutil.which("nvidia-smi"):
            self._make_gpu_series()

    def _make_request_series(self) -> None:
        self.request_seconds = self._histogram(
            "request_seconds", "Time from a request's last byte to its answer.", ["model", "protocol"]
        )
        self.requests = self._counter("requests", "Requests answered.", ["model", "protocol", "status"])
        self.errors = self._counter("errors", "Requests that ended in an error, by its class.", ["model", "error"])
        self.in_flight = self._gauge("in_flight", "Images admitted and not yet answered.", ["model"])
        self.cache_lookups = self._counter("cache_lookups", "Looks into the response cache.", ["model", "result"])
        self.cache_failures = self._counter("cache_failures", "Times Redis did not answer as it should.", [])

    def _make_model_series(self) -> None:
        self.phase_seconds = self._histogram("phase_seconds", "Time of an image in a phase.", ["model", "phase"])
        self.batch_size = Histogram(
            "batch_size", "Images of an inference.", ["model"],
            namespace=_NAMESPACE, buckets=_BATCH_SIZES, registry=self.registry,
        )  # fmt: skip
        self.queue_depth = self._gauge("queue_depth", "Images waiting for an inference.", ["model"])
        self.model_info = self._gauge(
            "model_info", "1 for each model that is served.", ["model", "digest", "format", "device"]
        )

    def _make_watching_series(self) -> None:
        self.drift_statistic = self._gauge(
            "drift_statistic", "Distance of the window from the reference.", ["model", "feature"]
        )
        self.drift_p_value = self._gauge(
            "drift_p_value", "Chance of such a distance without drift.", ["model", "feature"]
        )
        self.drift_detected = self._gauge("drift_detected", "1 while a feature has drifted.", ["model", "feature"])
        self.drift_observed = self._counter("drift_observed", "Images looked at for drift.", ["model"])
        self.drift_skipped = self._counter("drift_skipped", "Images not looked at, to save processor time.", ["model"])
        self.samples = self._counter("samples", "Images kept for the next dataset version.", ["model", "reason"])
        self.sample_failures = self._counter(
            "sample_failures", "Times the store did not take a shard of samples.", ["model"]
        )
        self.arm_requests = self._counter("arm_requests", "Requests by the arm that answered.", ["model", "arm"])

    def _make_gpu_series(self) -> None:
        reading = _GpuMemory()
        gauge = self._gauge("gpu_memory_bytes", "GPU memory in use, all GPUs and processes of this machine.", [])
        gauge.set_function(reading.used_bytes)

    def observe_phase(self, model: str, phase: Phase, seconds: float) -> None:
        """Note how long an image was in a phase."""
        self.phase_seconds.labels(model, phase).observe(seconds)

    @contextmanager
    def timed(self, model: str, phase: Phase) -> Iterator[None]:
        """Time what runs inside as a phase; not noted when it raises."""
        start = time.perf_counter()
        yield
        self.observe_phase(model, phase, time.perf_counter() - start)

    def observe_request(self, model: str, *, protocol: str, status: str, seconds: float) -> None:
        """Note a request that was answered.

        Args:
            model: Name of the model; empty where the request named none that is served, so that callers cannot make
                series at will.
            protocol: `http` or `grpc`.
            status: The HTTP status or the gRPC code.
            seconds: From the last byte of the request to the answer.
        """
        self.request_seconds.labels(model, protocol).observe(seconds)
        self.requests.labels(model, protocol, status).inc()

    def count_error(self, model: str, error: BaseException) -> None:
        """Count an error by its class."""
        self.errors.labels(model, type(error).__name__).inc()

    def show_model(self, model: str, *, digest: str, format: str, device: str) -> None:  # noqa: A002
        """Show a model as served."""
        self.model_info.labels(model, digest, format, device).set(1)

    def hide_model(self, model: str, *, digest: str, format: str, device: str) -> None:  # noqa: A002
        """No longer show a model as served."""
        self.model_info.remove(model, digest, format, device)

    def forget_model(self, model: str) -> None:
        """Drop the gauges that ask the model itself, so that an unloaded one can be freed."""
        self.in_flight.remove(model)
        self.queue_depth.remove(model)

    def exposition(self) -> bytes:
        """Return the series as Prometheus reads them (text format 0.0.4)."""
        return generate_latest(self.registry)

    def _histogram(self, name: str, what: str, labels: list[str]) -> Histogram:
        return Histogram(name, what, labels, namespace=_NAMESPACE, buckets=_SECONDS, registry=self.registry)

    def _counter(self, name: str, what: str, labels: list[str]) -> Counter:
        return Counter(name, what, labels, namespace=_NAMESPACE, registry=self.registry)

    def _gauge(self, name: str, what: str, labels: list[str]) -> Gauge:
        return Gauge(name, what, labels, namespace=_NAMESPACE, registry=self.registry)


class _GpuMemory:
    """Asks nvidia-smi, at most every ten seconds."""

    def __init__(self) -> None:
        self._used_bytes = float("nan")
        self._read_at = float("-inf")

    def used_bytes(self) -> float:
        if time.monotonic() - self._read_at >= _GPU_INTERVAL_S:
            self._read_at = time.monotonic()
            self._used_bytes = _ask_nvidia_smi()
        return self._used_bytes


def _ask_nvidia_smi() -> float:
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=2.0, check=True).stdout
        return sum(float(line) for line in answer.split()) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError):
        return float("nan")
