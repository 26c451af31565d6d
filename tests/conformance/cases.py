"""What both runners have to do alike: a table of pipelines, their arguments, and what has to come out."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kfp import dsl

from tests.conformance import parts


@dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
        is_done: Every task succeeded.
        outputs: Of the pipeline; artifacts as their metadata.
        folder: Of the run.
    """

    is_done: bool
    outputs: dict[str, Any]
    folder: Path

    @property
    def log(self) -> str:
        return (self.folder / "pipeline.log").read_text(encoding="utf-8", errors="replace")

    @property
    def traces(self) -> list[str]:
        path = self.folder / "trace.txt"
        return path.read_text().splitlines() if path.exists() else []

    def text(self, name: str) -> str:
        return (self.folder / name).read_text()


@dataclass(frozen=True)
class Case:
    """One row of the suite.

    Attributes:
        pipeline: To compile and run.
        arguments: Of the pipeline.
        outputs: What it has to return; None: not looked at.
        is_done: Whether it has to succeed.
        check: Further checks of the result.
    """

    pipeline: Any
    arguments: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] | None = None
    is_done: bool = True
    check: Callable[[Result], None] = lambda result: None


CASES: dict[str, Case] = {}


def case(**values: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add a pipeline function to the table under its own name."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        name = function.__name__
        CASES[name] = Case(pipeline=dsl.pipeline(name=f"case-{name.replace('_', '-')}")(function), **values)
        return function

    return add


def _out(value: Any) -> dict[str, Any]:
    return {"Output": value}


_ODD = "日本語 ← é e\u0301 🦉 \u202eright to left\u202c\ttab"
_SHELL = 'it\'s "quoted" $(exit 9) `false` \\ ; & | > $HOME %s'


@case(
    arguments={
        "text": "a",
        "whole": 2**40,
        "real": 1.5,
        "flag": True,
        "items": [1, "b", [True]],
        "table": {"k": {"x": 1}},
    },
    outputs=_out(json.dumps(["a", 2**40, 1.5, True, [1.0, "b", [True]], {"k": {"x": 1.0}}])),
)
def parameters_of_every_type(text: str, whole: int, real: float, flag: bool, items: list, table: dict) -> str:
    return parts.echo(text=text, whole=whole, real=real, flag=flag, items=items, table=table).output


@case(
    arguments={"text": "", "whole": 0, "real": 0.0, "flag": False, "items": [], "table": {}},
    outputs=_out('["", 0, 0.0, false, [], {}]'),
)
def parameters_that_are_empty(text: str, whole: int, real: float, flag: bool, items: list, table: dict) -> str:
    return parts.echo(text=text, whole=whole, real=real, flag=flag, items=items, table=table).output


@case(outputs=_out("('é', -1, 0.5, True, [1.0])"))
def parameters_left_at_their_defaults() -> str:
    return parts.echo_defaults().output


@case(
    arguments={"text": _ODD}, outputs=_out(json.dumps([_ODD, 1, 1.0, True, [_ODD], {_ODD: _ODD}], ensure_ascii=False))
)
def unicode_in_parameters(text: str) -> str:
    return parts.echo(text=text, whole=1, real=1.0, flag=True, items=[_ODD], table={_ODD: _ODD}).output


@case(arguments={"text": _SHELL}, outputs=_out(f"({_SHELL!r}, -1, 0.5, True, [1.0])"))
def words_that_a_shell_would_read(text: str) -> str:
    return parts.echo_defaults(text=text).output


@case(arguments={"items": list(range(10_000))}, outputs=_out("10000 49995000"))
def a_list_of_ten_thousand(items: list) -> str:
    return parts.describe(items=items).output


@case(outputs=_out("('7', 14, 3.5, False, [1.0])"))
def several_outputs_of_one_task() -> str:
    found = parts.several(number=7)
    return parts.echo_defaults(
        text=found.outputs["word"],
        whole=found.outputs["double"],
        real=found.outputs["half"],
        flag=found.outputs["is_even"],
    ).output


@case(check=lambda result: _two_equal(result))
def an_artifact_of_five_megabytes() -> dsl.Dataset:
    made = parts.write_file(byte_count=5_000_000)
    read = parts.read_file(data=made.outputs["data"])
    parts.trace(name=made.outputs["Output"]).after(read)
    parts.trace(name=read.output)
    return made.outputs["data"]


def _two_equal(result: Result) -> None:
    assert len(result.traces) == 2
    assert len(set(result.traces)) == 1
    assert result.outputs["Output"]["bytes"] == 5_000_000


@case(outputs=_out('{"bytes": 3.0, "name": "Größe", "nested": {"list": [1.0, "zwei", null]}}'))
def metadata_of_an_artifact() -> str:
    return parts.read_metadata(data=parts.write_file(byte_count=3).outputs["data"]).output


@case(outputs=_out("100 4950 part 0/näme-0.txt True"))
def a_folder_as_artifact() -> str:
    return parts.read_folder(folder=parts.write_folder(file_count=100).outputs["folder"]).output


@case(outputs=_out(0.875))
def metrics_that_the_next_task_reads() -> float:
    return parts.read_metrics(metrics=parts.judge().outputs["metrics"]).output


@case(check=lambda result: _confusion(result.outputs["Output"]))
def a_confusion_matrix() -> dsl.ClassificationMetrics:
    return parts.judge().outputs["matrix"]


def _confusion(metadata: dict[str, Any]) -> None:
    matrix = metadata["confusionMatrix"]
    assert [row["row"] for row in matrix["rows"]] == [[3, 1], [0, 4]]
    assert [one["displayName"] for one in matrix["annotationSpecs"]] == ["cat", "dog"]


@case(check=lambda result: _page(result))
def a_page() -> dsl.HTML:
    return parts.judge().outputs["page"]


def _page(result: Result) -> None:
    (path,) = result.folder.rglob("judge/page")
    assert path.read_text(encoding="utf-8") == "<p>größer</p>"


@case(outputs=_out(False))
def an_output_that_was_not_written() -> bool:
    return parts.is_there(data=parts.leave_unwritten().outputs["data"]).output


def _traced(result: Result, *names: str) -> None:
    assert sorted(result.traces) == list(names)


@case(arguments={"word": "no"}, check=lambda result: _traced(result, "else"))
def a_branch_not_taken(word: str) -> None:
    with dsl.If(word == "yes"):
        parts.trace(name="if")
    with dsl.Else():
        parts.trace(name="else")


@case(arguments={"word": "maybe"}, check=lambda result: _traced(result, "elif", "inner", "maybe"))
def a_branch_on_a_tasks_output(word: str) -> None:
    said = parts.trace(name=word)
    with dsl.If(said.output == "yes"):
        parts.trace(name="if")
    with dsl.Elif(said.output == "maybe"):
        parts.trace(name="elif")
        with dsl.If(word != "yes"):
            parts.trace(name="inner")
    with dsl.Else():
        parts.trace(name="else")


@case(arguments={"word": "b"}, outputs=_out("('from b', -1, 0.5, True, [1.0])"))
def one_of_two_branches_outputs(word: str) -> str:
    with dsl.If(word == "a"):
        first = parts.trace(name="from a")
    with dsl.Else():
        second = parts.trace(name="from b")
    return parts.echo_defaults(text=dsl.OneOf(first.output, second.output)).output


@case(outputs=_out("a,b,c"))
def a_loop_over_constants() -> str:
    with dsl.ParallelFor(["c", "a", "b"]) as item:
        said = parts.trace(name=item)
    return parts.join(texts=dsl.Collected(said.output)).output


_TABLES = [{"label": "a", "size": 1}, {"label": "b", "size": 2}]


@case(arguments={"items": _TABLES}, outputs=_out("a,b"))
def a_loop_over_a_parameter(items: list) -> str:
    with dsl.ParallelFor(items) as item:
        said = parts.trace(name=item.label)
    return parts.join(texts=dsl.Collected(said.output)).output


@case(arguments={"count": 3}, outputs=_out("item 0,item 1,item 2"))
def a_loop_over_a_tasks_output(count: int) -> str:
    with dsl.ParallelFor(parts.split(count=count).output) as item:
        said = parts.trace(name=item.label)
    return parts.join(texts=dsl.Collected(said.output)).output


@case(outputs=_out("1 20 300"))
def artifacts_collected_from_a_loop() -> str:
    with dsl.ParallelFor([300, 1, 20]) as size:
        made = parts.write_sized(byte_count=size)
    return parts.join_files(data=dsl.Collected(made.outputs["data"])).output


@case(check=lambda result: _traced(result, "b", "c"))
def a_branch_in_a_loop() -> None:
    with dsl.ParallelFor(["a", "b", "c"]) as item:
        with dsl.If(item != "a"):
            parts.trace(name=item)


@dsl.pipeline(name="inner")
def _inner(name: str) -> str:
    return parts.trace(name=parts.trace(name=name).output).output


@case(check=lambda result: _traced(result, "one", "one", "two", "two"))
def a_pipeline_in_a_pipeline_twice() -> None:
    _inner(name="one")
    _inner(name="two")


@case(check=lambda result: _ended(result, "SUCCEEDED"))
def an_exit_handler_after_success() -> None:
    with dsl.ExitHandler(parts.note_end()):
        parts.trace(name="work")


@case(is_done=False, check=lambda result: _ended(result, "FAILED"))
def an_exit_handler_after_a_failure() -> None:
    with dsl.ExitHandler(parts.note_end()):
        parts.fail(message="broken on purpose")


def _ended(result: Result, state: str) -> None:
    assert result.text("end.txt") == state


@case(is_done=False, check=lambda result: _failed(result, "ValueError: broken on purpose"))
def a_failure_ends_the_run() -> None:
    parts.trace(name="next").after(parts.fail(message="broken on purpose"))


def _failed(result: Result, words: str) -> None:
    assert words in result.log
    assert result.traces == []


@case(is_done=False)
def an_exit_code_is_a_failure() -> None:
    parts.leave(code=3)


@case(is_done=False, check=lambda result: _failed(result, ""))
def a_task_that_is_killed_is_a_failure() -> None:
    parts.trace(name="next").after(parts.die())


@case(outputs=_out("try 3"))
def a_retry_that_succeeds() -> str:
    return parts.fail_times(count=2).set_retry(num_retries=2, backoff_duration="0s").output


@case(is_done=False, check=lambda result: _tries(result, 2))
def retries_that_run_out() -> None:
    parts.fail_times(count=9).set_retry(num_retries=1, backoff_duration="0s")


def _tries(result: Result, count: int) -> None:
    assert len(result.text("tries.txt")) == count


def _reported(exit_class: str, message: str) -> Callable[[Result], None]:
    def check(result: Result) -> None:
        report = json.loads(result.text("report_failure.exit.json"))
        assert (report["exit_class"], report["message"]) == (exit_class, message)
        events = [json.loads(line) for line in result.text("events.jsonl").splitlines()]
        assert [event["kind"] for event in events] == ["stage_started", "warning", "stage_failed"]
        assert {event["run"] for event in events} == {"run-1"}
        assert events[1]["message"] == "größer als erwartet"

    return check


@case(arguments={"kind": "bad_data"}, is_done=False, check=_reported("bad_data", "clip.mp4: expected 30 frames, got 3"))
def an_exit_report_of_bad_data(kind: str) -> None:
    parts.report_failure(kind=kind)


@case(arguments={"kind": "out_of_memory"}, is_done=False, check=_reported("out_of_memory", "12 GiB"))
def an_exit_report_of_memory_that_ran_out(kind: str) -> None:
    parts.report_failure(kind=kind)


@case(check=lambda result: _events(result))
def events_of_a_stage_that_ends_well() -> None:
    parts.report_failure(kind="none")


def _events(result: Result) -> None:
    last = json.loads(result.text("events.jsonl").splitlines()[-1])
    assert (last["kind"], last["figures"]) == ("stage_finished", {"images": 7})


@case(outputs=_out("of the task|of the run|run-1"))
def environment_variables() -> str:
    task = parts.read_environment(names=["GREETING", "VISIONYARD_GREETING", "VISIONYARD_RUN"])
    return task.set_env_variable("GREETING", "of the task").output


@case(outputs=_out("written"))
def home_and_temporary_files() -> str:
    return parts.use_places().output


@case(check=lambda result: _said(result))
def what_a_task_prints_is_in_the_log() -> None:
    parts.talk()


def _said(result: Result) -> None:
    assert "größer: 日本語" in result.log
    assert "to standard error" in result.log


@case(arguments={"data_source": "SOURCE"}, outputs=_out("a b.txt,ö.txt"))
def data_that_lies_elsewhere(data_source: str) -> str:
    return parts.list_source(source=data_source).output
