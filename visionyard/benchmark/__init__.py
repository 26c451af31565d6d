"""Benchmark: latency, throughput, memory and load time of every format of a model bundle."""

from visionyard.benchmark.benchmarking import BenchmarkReport, benchmark_model
from visionyard.benchmark.measure import Measurement

__all__ = ["BenchmarkReport", "Measurement", "benchmark_model"]
