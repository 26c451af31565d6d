"""The benchmark as a Markdown table."""

from collections.abc import Mapping, Sequence

from visionyard.benchmark.measure import Measurement

_HEAD = (
    "format",
    "batch",
    "threads",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "images/s",
    "decode ms",
    "preprocess ms",
    "model ms",
    "postprocess ms",
    "load ms",
    "peak MB",
    "file MB",
    "calls",
)


def markdown(
    measurements: Sequence[Measurement],
    fastest: Measurement,
    skipped: Sequence[str],
    machine: Mapping[str, float | int | str],
    *,
    item: str = "image",
) -> str:
    """Return the table with a sentence on the fastest format before it and on what was skipped after it.

    Args:
        measurements: A row each, in their order.
        fastest: Named and marked.
        skipped: One sentence each.
        machine: `cpu`, `cores`, `load_average`.
        item: What people call what is looked at.
    """
    threads = f"{fastest.threads} thread" + ("s" if fastest.threads > 1 else "")
    images = f"one {item}" if fastest.batch_size == 1 else f"{fastest.batch_size} {item}s"
    digits = 1 if item == "image" else 3  # a row takes microseconds
    head = [name.replace("images", f"{item}s") for name in _HEAD]
    p50 = f"{fastest.p50_ms:.{digits}f} ms"
    lines = [
        f"Fastest format that keeps the metric: **{fastest.format}**, {p50} for {images}, {threads}.",
        "",
        f"A call goes from encoded {item}s to predictions; phases are means a call.",
        f"Machine: {machine['cpu']}, {machine['cores']} cores, load {machine['load_average']} before the benchmark.",
        "",
        "| " + " | ".join(head) + " |",
        "| --- |" + " ---: |" * (len(_HEAD) - 1),
    ]
    lines += ["| " + " | ".join(_cells(one, digits, is_fastest=one == fastest)) + " |" for one in measurements]
    if skipped:
        lines += ["", "Skipped: " + "; ".join(skipped) + "."]
    return "\n".join(lines) + "\n"


def _cells(one: Measurement, digits: int, *, is_fastest: bool) -> list[str]:
    times = (one.decode_ms, one.preprocess_ms, one.infer_ms, one.postprocess_ms)
    return [
        f"**{one.format}**" if is_fastest else one.format,
        str(one.batch_size),
        str(one.threads),
        *(f"{value:.{digits}f}" for value in (one.p50_ms, one.p95_ms, one.p99_ms)),
        f"{one.images_per_s:.1f}",
        *(f"{value:.{max(2, digits)}f}" for value in times),
        f"{one.load_ms:.0f}",
        f"{one.peak_memory_bytes / 1e6:.0f}",
        f"{one.file_bytes / 1e6:.1f}",
        str(one.repeat_count),
    ]
