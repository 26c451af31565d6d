"""What a run will cost, before it runs: seconds of each stage by a former run or by word, times what its pod holds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from visionyard.cluster.attempts import read_attempts
from visionyard.cluster.costs import Prices
from visionyard.cluster.profiles import Profile
from visionyard.cluster.quantities import parse_cpu, parse_memory
from visionyard.config import RunConfig
from visionyard.errors import ConfigError

_TRAINING = "train_model"


@dataclass(frozen=True)
class StageEstimate:
    """One stage of a run to come.

    Attributes:
        stage: Its name.
        elapsed_s: How long it is taken to last.
        origin: Where that comes from.
        resources: What its pod holds, in words.
        cost: In the table's currency.
    """

    stage: str
    elapsed_s: float
    origin: str
    resources: str
    cost: float


def stage_seconds(events: Iterable[Mapping[str, Any]], config: RunConfig) -> dict[str, tuple[float, str]]:
    """Return seconds of each stage that a former run finished, and where they come from.

    Training is taken to grow with its epochs; what differs in data, model or machine is not known from here.

    Args:
        events: The former run's.
        config: The run to come.
    """
    found = {}
    for attempt in read_attempts(events):
        if attempt.status != "done":
            continue
        seconds, origin = attempt.elapsed_s, "measured"
        epochs = attempt.figures.get("epochs")
        if attempt.stage == _TRAINING and isinstance(epochs, int | float) and epochs > 0:
            seconds *= config.training.epochs / float(epochs)
            origin = f"measured with {epochs:g} epochs, for {config.training.epochs}"
        found[attempt.stage] = (seconds, origin)
    return found


def stated_seconds(texts: Iterable[str]) -> dict[str, tuple[float, str]]:
    """Return the seconds of each `stage=minutes`.

    Raises:
        ConfigError: A text is none such; lists all mistakes.
    """
    found, problems = {}, []
    for text in texts:
        stage, _, minutes = text.partition("=")
        try:
            seconds = float(minutes) * 60
        except ValueError:
            seconds = -1.0
        if not stage.strip() or not 0 <= seconds < float("inf"):
            problems.append(f"--minutes {text}: expected STAGE=MINUTES, such as train_model=90")
        found[stage.strip()] = (seconds, "stated")
    if problems:
        raise ConfigError(problems)
    return found


def estimate_stages(
    times: Mapping[str, tuple[float, str]], profile: Profile, prices: Prices, parameters: Mapping[str, Any]
) -> list[StageEstimate]:
    """Return what each stage will cost, in the order of `times`.

    What is paid for is what a pod sets aside: its requests, or its limits where it has none.

    Args:
        times: Stage to its seconds and where they come from.
        profile: Which pods the stages get.
        prices: The price table.
        parameters: Pipeline parameters.

    Raises:
        ConfigError: The table has no price for an accelerator of the profile.
    """
    estimates = []
    for stage, (seconds, origin) in times.items():
        settings = profile.stage(stage, parameters)
        cpu = settings.cpu_request or settings.cpu_limit or "0"
        memory = settings.memory_request or settings.memory_limit or "0"
        held = [f"{cpu} cores", memory]
        if settings.accelerator_count:
            held.append(f"{settings.accelerator_count} {settings.accelerator_type}")
        cost = prices.cost(
            seconds,
            cpu_count=parse_cpu(cpu),
            memory_bytes=parse_memory(memory),
            accelerator_type=settings.accelerator_type,
            accelerator_count=settings.accelerator_count,
        )
        estimates.append(StageEstimate(stage, seconds, origin, ", ".join(held), cost))
    return estimates
