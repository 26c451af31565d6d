"""What a service serves and served before, kept on the service itself as annotations."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from visionyard.errors import ConfigError

HISTORY = "visionyard.dev/deployed"
CANARY = "visionyard.dev/canary"
# On pods, so that the arms of a canary, and old pods and new ones, can be told apart.
DIGEST_LABEL = "visionyard.dev/digest"
KEPT_COUNT = 10
LABEL_LENGTH = 63
# The arm's name in KServe; its Deployment is <service>-canary-predictor.
CANARY_ARM = "canary"
_NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")


@dataclass(frozen=True)
class Served:
    """One bundle as a service serves it.

    Attributes:
        digest: SHA-256 of the bundle.
        uri: Where the pods read it.
        format: `onnx` or `torchscript`.
    """

    digest: str
    uri: str
    format: str

    @property
    def label(self) -> str:
        """The digest as a label: its first 16 characters."""
        return self.digest[:16]


def history_of(annotations: Mapping[str, str]) -> list[Served]:
    """Return what a service served, newest first; the first is what it serves now. Empty when it is not ours."""
    return [Served(**entry) for entry in _read(annotations, HISTORY, [])]


def canary_of(annotations: Mapping[str, str]) -> Served | None:
    """Return the bundle that is tried beside the served one, None when there is none."""
    found = _read(annotations, CANARY, None)
    return Served(**found) if found else None


def history_text(history: list[Served]) -> str:
    """Return the annotation for a history; the newest ten are kept."""
    return json.dumps([asdict(entry) for entry in history[:KEPT_COUNT]])


def with_newest(history: list[Served], newest: Served) -> list[Served]:
    """Return a history that begins with `newest`; the same bundle twice in a row is one entry."""
    return [newest, *(history[1:] if history and history[0].digest == newest.digest else history)]


def canary_text(served: Served) -> str:
    """Return the annotation for a canary."""
    return json.dumps(asdict(served))


def check_name(name: str, namespace: str, *, parts: tuple[str, ...] = ()) -> None:
    """Check that a service's name and those that a platform makes from it are names.

    Args:
        name: Of the service.
        namespace: Its namespace.
        parts: What the platform appends, such as `-predictor-{namespace}`.

    Raises:
        ConfigError: A name is not one of DNS, or too long; says by how much.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"deployment.name {name!r}: expected small letters, digits and '-', a letter first; give another name"
        )
    longest = max((f"{name}{part.format(namespace=namespace)}" for part in ("", *parts)), key=len)
    if len(longest) > LABEL_LENGTH:
        over = len(longest) - LABEL_LENGTH
        raise ConfigError(
            f"deployment.name {name!r}: becomes {longest!r}, {len(longest)} characters, at most {LABEL_LENGTH} are "
            f"allowed; make it {over} shorter"
        )


def _read(annotations: Mapping[str, str], key: str, default: Any) -> Any:
    text = annotations.get(key, "")
    try:
        return json.loads(text) if text else default
    except ValueError:
        raise ConfigError(f"annotation {key}: not valid JSON ({text[:80]!r}); remove it and deploy again") from None
