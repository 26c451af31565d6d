"""The error tree: what is caught by which name, and the word each gives to the exit report."""

import pytest

from visionyard import errors
from visionyard.errors import ConfigError, VisionyardError


def _all_errors() -> list[type[VisionyardError]]:
    return [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, VisionyardError)]


@pytest.mark.parametrize("error", _all_errors(), ids=lambda error: error.__name__)
def test_every_error_stands_in_the_tree_on_top(error: type[VisionyardError]) -> None:
    assert error.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize(
    ("error", "exit_class"),
    [
        (errors.VisionyardError, "bug"),
        (errors.ConfigError, "bad_config"),
        (errors.DataError, "bad_data"),
        (errors.MediaError, "bad_data"),
        (errors.ShapeError, "bad_data"),
        (errors.SplitError, "bad_data"),
        (errors.StorageError, "store_unreachable"),
        (errors.ArtifactError, "bad_data"),
        (errors.ModelError, "bad_config"),
        (errors.NotANumberError, "not_a_number"),
        (errors.ParityError, "parity_failed"),
        (errors.DeployError, "deploy_failed"),
        (errors.PreemptedError, "preempted"),
    ],
)
def test_exit_classes(error: type[VisionyardError], exit_class: str) -> None:
    assert error.exit_class == exit_class


def test_wrong_arguments_are_value_errors_too() -> None:
    assert issubclass(errors.ConfigError, ValueError)
    assert issubclass(errors.ShapeError, ValueError)


@pytest.mark.parametrize(
    ("given", "problems", "text"),
    [
        pytest.param("a: wrong", ["a: wrong"], "a: wrong", id="one"),
        pytest.param(["a: wrong", "b: wrong"], ["a: wrong", "b: wrong"], "a: wrong\nb: wrong", id="several"),
        pytest.param(("a: wrong",), ["a: wrong"], "a: wrong", id="tuple"),
    ],
)
def test_config_errors_hold_every_problem(given: object, problems: list[str], text: str) -> None:
    error = ConfigError(given)
    assert error.problems == problems
    assert str(error) == text
