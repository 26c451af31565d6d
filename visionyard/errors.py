"""Every error that Visionyard raises on purpose.

VisionyardError
├── ConfigError (ValueError)        a run config or an option is wrong; holds every mistake found
├── DataError                       a source, an image, a label or a split cannot be used
│   ├── MediaError                  one image or video cannot be read
│   ├── ShapeError (ValueError)     an array has another shape than expected
│   └── SplitError                  the groups cannot be divided into train, val and test
├── StorageError                    an object store or a web server refused, timed out or lacks the thing
├── ArtifactError                   a folder between stages is incomplete, altered or of an unknown version
├── ModelError                      a plugin, preset or weights file does not fit
├── NotANumberError                 the loss or a metric is no longer a number
├── ParityError                     an exported model differs from the trained one
├── RequestError (ValueError)       a request to the model server cannot be answered as it is
│   ├── NotFoundError               it names a model or tensor that is not there
│   ├── TooLargeError               its body, an image or the number of images is over the limit
│   └── DeniedError                 it lacks a valid key, or asks for what is switched off
├── DeployError                     a platform refused a service, or a deployed bundle does not come to serve
│   └── NoAnswerError               the cluster does not answer for now
├── OverloadedError                 the server has too much to do, or the caller asked too often
├── DeadlineError                   the answer was not ready in time
└── PreemptedError                  the process was told to stop

Each message names the thing, the value, what was expected and the way out. `exit_class` is the word that the exit
report and the retry policy read.
"""

from collections.abc import Sequence


class VisionyardError(Exception):
    """Base of all errors raised on purpose."""

    exit_class = "bug"


class ConfigError(VisionyardError, ValueError):
    """A run config, an option or a parameter is wrong.

    Attributes:
        problems: Every mistake found, one sentence each.
    """

    exit_class = "bad_config"

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class DataError(VisionyardError):
    """A source, an image, a label or a split cannot be used."""

    exit_class = "bad_data"


class MediaError(DataError):
    """One image or video cannot be read."""


class ShapeError(DataError, ValueError):
    """An array has another shape than expected."""


class SplitError(DataError):
    """The groups cannot be divided into train, val and test as asked."""


class StorageError(VisionyardError):
    """An object store or a web server refused, timed out or lacks the thing.

    Attributes:
        is_transient: It may pass by itself: the store was away or overloaded, time and again.
    """

    exit_class = "store_unreachable"

    def __init__(self, message: str, *, is_transient: bool = False) -> None:
        self.is_transient = is_transient
        super().__init__(message)


class ArtifactError(VisionyardError):
    """A folder passed between stages is incomplete, altered, or of an unknown schema version."""

    exit_class = "bad_data"


class ModelError(VisionyardError):
    """A plugin, a preset or a weights file does not fit."""

    exit_class = "bad_config"


class NotANumberError(VisionyardError):
    """The loss or a metric is no longer a number."""

    exit_class = "not_a_number"


class ParityError(VisionyardError):
    """An exported model differs from the trained one."""

    exit_class = "parity_failed"


class RequestError(VisionyardError, ValueError):
    """A request to the model server is wrong; the message is for the caller."""

    exit_class = "bad_data"


class NotFoundError(RequestError):
    """A request names a model or tensor that is not there."""


class TooLargeError(RequestError):
    """A request's body, an image of it or the number of its images is over the limit."""


class DeniedError(RequestError):
    """A request lacks a valid key, or asks for what is switched off."""


class DeployError(VisionyardError):
    """A platform refused a service, or a deployed bundle does not come to serve."""

    exit_class = "deploy_failed"


class NoAnswerError(DeployError):
    """The cluster does not answer, or says that it cannot for now; what is asked for may be done all the same."""


class OverloadedError(VisionyardError):
    """The server has too much to do, or the caller asked too often.

    Attributes:
        retry_after_s: When to try again.
        is_rate_limit: The caller's own rate, rather than the server's load.
    """

    exit_class = "overloaded"

    def __init__(self, message: str, *, retry_after_s: float = 1.0, is_rate_limit: bool = False) -> None:
        self.retry_after_s = retry_after_s
        self.is_rate_limit = is_rate_limit
        super().__init__(message)


class DeadlineError(VisionyardError):
    """The answer was not ready in time."""

    exit_class = "deadline"


class PreemptedError(VisionyardError):
    """The process was told to stop and did."""

    exit_class = "preempted"
