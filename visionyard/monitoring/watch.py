"""All watching of one served model in one place: drift, samples, and their figures as Prometheus series."""

import numpy as np

from visionyard.config.serving_config import ServingConfig
from visionyard.inference.bundle import BundleManifest
from visionyard.monitoring.drift import DriftMonitor, DriftReport
from visionyard.monitoring.features import confidence_threshold_of
from visionyard.monitoring.metrics import ServingMetrics
from visionyard.monitoring.sampling import Sampler
from visionyard.transforms import Prediction, PreprocessingSpec


class ModelWatch:
    """Watches one model as far as the config says; every method may be called from any thread."""

    def __init__(
        self, manifest: BundleManifest, config: ServingConfig, *, name: str, digest: str, metrics: ServingMetrics
    ) -> None:
        """Start what is switched on.

        Args:
            manifest: Of the served bundle.
            config: Its `drift` and `sampling`.
            name: The model's, in the URLs.
            digest: SHA-256 of the bundle.
            metrics: Where figures go.
        """
        self._name, self._metrics = name, metrics
        self._told_observed = self._told_skipped = 0
        # Drift is that of pictures; no one measures rows of a table.
        is_watched = config.drift.enabled and isinstance(manifest.preprocessing, PreprocessingSpec)
        self._monitor = DriftMonitor(manifest, config.drift, on_test=self._tell) if is_watched else None
        if self._monitor is not None:  # there from the start, so that watching which never begins shows as 0
            for counter in (metrics.drift_observed, metrics.drift_skipped):
                counter.labels(name)
        self._sampler = Sampler(
            config.sampling,
            model=name,
            digest=digest,
            classes=manifest.classes,
            confidence_threshold=confidence_threshold_of(manifest.postprocessing),
            on_failure=metrics.sample_failures.labels(name).inc,
        )

    def note(
        self,
        data: bytes | None,
        image: np.ndarray,
        prediction: Prediction,
        *,
        group: str = "",
        has_own_options: bool = False,
    ) -> None:
        """Note an answered image; takes microseconds unless the image is drawn as a sample.

        Args:
            data: The encoded file as it came, None for a decoded image.
            image: (H, W, 3) uint8 RGB, upright; must not be written to afterwards.
            prediction: The model's answer.
            group: What the caller says the image belongs to.
            has_own_options: The request asked for another threshold or number of boxes than the bundle's.
        """
        is_drifted = False
        if self._monitor is not None:
            self._monitor.observe(image, prediction, group=group, has_own_options=has_own_options)
            is_drifted = self._monitor.is_drifted
        self._offer(data, image, prediction, group=group, is_drifted=is_drifted)

    def dispute(self, data: bytes | None, image: np.ndarray, prediction: Prediction, *, group: str = "") -> None:
        """Note that another model answered otherwise to an image that was noted before; arguments as in `note`."""
        self._offer(data, image, prediction, group=group, is_disputed=True)

    def _offer(
        self,
        data: bytes | None,
        image: np.ndarray,
        prediction: Prediction,
        *,
        group: str,
        is_drifted: bool = False,
        is_disputed: bool = False,
    ) -> None:
        reason = self._sampler.offer(
            data, image, prediction, group=group, is_drifted=is_drifted, is_disputed=is_disputed
        )
        if reason is not None:
            self._metrics.samples.labels(self._name, reason).inc()

    def report(self) -> DriftReport | None:
        """Return how the pictures compare with the reference; None when drift is not watched."""
        return None if self._monitor is None else self._monitor.report()

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait until all pictures handed over are measured; return False when that takes longer than `timeout_s`."""
        return self._monitor is None or self._monitor.wait_until_idle(timeout_s)

    def close(self) -> None:
        """Stop watching; samples that wait are written first."""
        if self._monitor is not None:
            self._monitor.close()
        self._sampler.close()

    def _tell(self) -> None:
        """Publish the figures; called from the watching thread only."""
        report = self.report()
        if report is None:
            return
        self._metrics.drift_observed.labels(self._name).inc(report.observed_count - self._told_observed)
        self._metrics.drift_skipped.labels(self._name).inc(report.skipped_count - self._told_skipped)
        self._told_observed, self._told_skipped = report.observed_count, report.skipped_count
        for drift in report.features:
            labels = (self._name, drift.feature)
            self._metrics.drift_statistic.labels(*labels).set(drift.statistic)
            self._metrics.drift_p_value.labels(*labels).set(drift.p_value)
            self._metrics.drift_detected.labels(*labels).set(drift.is_drifted)
