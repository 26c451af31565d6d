"""The lint of compiled pipelines: each thing that the backend breaks on is refused."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kfp import compiler, dsl, kubernetes

from visionyard.cluster.lint import find_lint
from visionyard.cluster.packages import Package, read_package
from visionyard.cluster.profiles import compiling, load_profile, settle


@dsl.component(base_image="visionyard/data-python:1", install_kfp_package=False)
def work(count: int = 1, text: str = "") -> float:
    return float(count)


@dsl.component(base_image="visionyard/data-python:1", install_kfp_package=False)
def judge() -> str:
    return "promote"


@dsl.component(base_image="visionyard/data-python:1", install_kfp_package=False)
def tell() -> None:
    pass


@dsl.component(base_image="visionyard/data-python:1", install_kfp_package=False)
def tell_status(status: dsl.PipelineTaskFinalStatus) -> None:
    print(status)


def _compiled(make: Callable[[], Any], folder: Path) -> Package:
    with compiling(load_profile("cpu")):
        compiler.Compiler().compile(make(), str(folder / "p.yaml"))
    return read_package(folder / "p.yaml")


def good() -> Any:
    @dsl.pipeline(name="good")
    def pipeline(cpu: str = "1", gpus: str = "0", selector: dict = {}):  # noqa: B006
        told = settle(tell(), "notify_end")
        with dsl.ExitHandler(told):
            judged = settle(judge(), "validate_model")
            with dsl.If(judged.output == "promote"):
                settle(work(count=2), "export_model")
        task = work(count=3)
        settle(task, "train_model", cpu=cpu, accelerator_type="nvidia.com/gpu", accelerator_count=gpus)
        kubernetes.add_node_selector_json(task, selector)

    return pipeline


def handed_on() -> Any:
    @dsl.pipeline(name="handed-on")
    def pipeline(cpu: str = "1"):
        with dsl.ExitHandler(settle(tell(), "notify_end")):
            settle(work(text=cpu), "train_model", cpu=cpu)

    return pipeline


@pytest.mark.parametrize("make", [good, handed_on], ids=["plain", "a parameter that a task of the sub-DAG takes too"])
def test_a_good_pipeline_passes(make: Callable[[], Any], tmp_path: Path):
    assert find_lint(_compiled(make, tmp_path)) == []


def cpu_in_a_handler() -> Any:
    @dsl.pipeline(name="bad")
    def pipeline(cpu: str = "1"):
        with dsl.ExitHandler(settle(tell(), "notify_end")):
            settle(work(), "train_model", cpu=cpu)

    return pipeline


def image_in_a_condition() -> Any:
    @dsl.pipeline(name="bad")
    def pipeline(image: str = "a"):
        with dsl.If(settle(judge(), "validate_model").output == "promote"):
            settle(work(), "train_model").set_container_image(image)

    return pipeline


def secret_in_a_loop() -> Any:
    @dsl.pipeline(name="bad")
    def pipeline(secret: str = "a"):
        with dsl.ParallelFor([1, 2]) as item:
            task = settle(work(count=item), "train_model")
            kubernetes.use_secret_as_env(task, secret_name=secret, secret_key_to_env={"a": "A"})

    return pipeline


def selector_in_a_handler() -> Any:
    @dsl.pipeline(name="bad")
    def pipeline(selector: dict = {}):  # noqa: B006
        with dsl.ExitHandler(settle(tell(), "notify_end")):
            kubernetes.add_node_selector_json(settle(work(), "train_model"), selector)

    return pipeline


def whole_number_of_gpus() -> Any:
    @dsl.pipeline(name="bad")
    def pipeline(gpus: int = 1):
        settle(work(), "train_model", accelerator_type="nvidia.com/gpu", accelerator_count=gpus)

    return pipeline


def retried() -> Any:
    @dsl.pipeline(name="bad")
    def pipeline():
        settle(work(), "train_model").set_retry(3)

    return pipeline


def final_status() -> Any:
    @dsl.pipeline(name="bad")
    def pipeline():
        with dsl.ExitHandler(settle(tell_status(), "notify_end")):
            settle(work(), "train_model")

    return pipeline


def float_output() -> Any:
    @dsl.pipeline(name="bad")
    def pipeline():
        measured = settle(work(), "validate_model")
        with dsl.If(measured.output > 0.5):
            settle(work(), "export_model")

    return pipeline


def float_parameter() -> Any:
    @dsl.pipeline(name="bad")
    def pipeline(threshold: float = 1.0):
        with dsl.If(threshold == 1.0):
            settle(work(), "export_model")

    return pipeline


def too_many() -> Any:
    @dsl.pipeline(name="bad")
    def pipeline():
        for number in range(12):
            settle(work(count=number), "export_model")

    return pipeline


def unsettled() -> Any:
    @dsl.pipeline(name="bad")
    def pipeline():
        work()

    return pipeline


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (cpu_in_a_handler, "task work in comp-exit-handler-1: the parameter cpu is used only in platform settings"),
        (image_in_a_condition, "task work in comp-condition-1: the parameter image is used only in platform"),
        (secret_in_a_loop, "the parameter secret is used only in platform settings inside a sub-DAG"),
        (selector_in_a_handler, "the parameter selector is used only in platform settings inside a sub-DAG"),
        (whole_number_of_gpus, "the resource parameter gpus is NUMBER_INTEGER"),
        (retried, "task work: set_retry(3)"),
        (final_status, "task tell-status: its input status is a final status"),
        (float_output, "task condition-1: the condition .* compares a float"),
        (float_parameter, "task condition-1: the condition .* compares a float"),
        (too_many, "12 tasks, each of which costs two pods"),
        (unsettled, "task work: no profile's settings"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_breaks_is_refused(make: Callable[[], Any], match: str, tmp_path: Path):
    problems = find_lint(_compiled(make, tmp_path))
    expected = re.escape(match).replace(re.escape(".*"), ".*")
    assert len(problems) == 1
    assert re.search(expected, problems[0])


def test_the_profiles_own_retries_of_lost_pods_pass(tmp_path: Path):
    @dsl.component(base_image="visionyard/train-python:1", install_kfp_package=False)
    def train_model() -> None:
        pass

    def spot() -> Any:
        @dsl.pipeline(name="spot")
        def pipeline():
            settle(train_model(), "train_model").set_retry(10)

        return pipeline

    package = _compiled(spot, tmp_path)
    assert find_lint(package, load_profile("gpu-spot")) == []
    assert "set_retry(10)" in find_lint(package, load_profile("cpu"))[0]
