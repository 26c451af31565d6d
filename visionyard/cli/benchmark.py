"""`visionyard benchmark`: measure a bundle on real images."""

from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from visionyard.errors import ConfigError


def benchmark_command(
    bundle: Path,
    *,
    dataset: Path | None,
    out: Path | None,
    batch_sizes: str,
    threads: str,
    repeat_count: int,
    is_kept: bool,
    console: Console,
) -> None:
    """Measure every format of a bundle, print the table, and put the figures into the bundle if they are to be kept.

    Raises:
        ConfigError: A list is not of whole numbers, or there is no dataset version.
    """
    images = dataset or bundle.absolute().parent / "dataset"
    if not (images / "dataset.json").exists():
        raise ConfigError(
            f"{images}: no dataset version there; name one with --dataset, its test images are measured on"
        )
    sizes, counts = _whole_numbers("--batch-sizes", batch_sizes), _whole_numbers("--threads", threads)
    from visionyard.benchmark import benchmark_model
    from visionyard.inference.choice import choose_format, keep_verdict

    target = out or Path(f"benchmark-{bundle.absolute().parent.name}")
    with Progress(console=console, transient=True) as progress:
        progress.add_task("measuring", total=None)
        benchmark_model(
            bundle, images, target, batch_sizes=sizes, threads=counts, repeat_count=repeat_count, warmup_count=3
        )
    console.print((target / "benchmark.md").read_text(encoding="utf-8"), markup=False)
    console.print(f"wrote {target}", soft_wrap=True)
    if is_kept:
        console.print(choose_format(keep_verdict(bundle, target), device="cpu").reason, soft_wrap=True)


def _whole_numbers(name: str, text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise ConfigError(f"{name} {text}: expected whole numbers from 1 up, comma separated, such as 1,8")
    return numbers
