"""submit, runs, schedule, profiles and cost estimate from the command line, against a stand-in of KFP's API."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.fixtures.argo import omitted, pod_of, task, workflow
from tests.fixtures.kfp_stub import KfpStub, kfp_stub
from visionyard import storage
from visionyard.cli import runs
from visionyard.cli.app import app
from visionyard.cluster.kfp_api import KfpApi
from visionyard.errors import ConfigError, NoAnswerError, VisionyardError

# The pipeline is compiled once in this process: what is made for one command is kept for the next.


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[KfpStub]:
    with kfp_stub() as served:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", served.host)
        monkeypatch.setattr(runs, "POLL_S", 0.01)
        yield served


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    _config(tmp_path)
    return tmp_path


def _config(folder: Path, source: str = "s3://clips/today", name: str = "run.yaml") -> None:
    (folder / name).write_text(f"name: parts\ndata: {{source: '{source}'}}\ntraining: {{epochs: 7}}\n")


def _invoke(*arguments: str) -> Result:
    result = CliRunner().invoke(app, list(arguments), terminal_width=200)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def _submitted(stub: KfpStub) -> dict[str, Any]:
    return next(iter(stub.runs.values()))


def test_a_run_is_submitted_with_what_it_needs(folder: Path, stub: KfpStub):
    result = _invoke("submit", "run.yaml", "--store", "s3://yard/x", "--fresh", "--set", "training.batch_size=4")
    run = _submitted(stub)
    assert run["run_id"] in result.output
    assert stub.experiments[run["experiment_id"]]["display_name"] == "parts"
    assert run["service_account"] == "visionyard-pipeline"
    assert run["runtime_config"]["pipeline_root"] == "s3://yard/x/artifacts"
    parameters = run["runtime_config"]["parameters"]
    assert parameters["data_source"] == "s3://clips/today"
    assert (parameters["training_epochs"], parameters["training_batch_size"]) == (7, 4)
    assert parameters["promotion_store"] == "s3://yard/x/promotion"
    assert parameters["training_checkpoints_uri"] == "s3://yard/x/checkpoints/parts"
    assert len(parameters["software_digest"]) == 64
    # Nothing was looked at from here, so the source is read anew.
    tasks = run["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]
    assert tasks["ingest-dataset"]["cachingOptions"] == {}
    assert tasks["train-model"]["cachingOptions"] == {"enableCache": True}
    assert "platforms" in run["pipeline_spec"]["platform_spec"]


@pytest.mark.parametrize(
    ("source", "arguments", "match"),
    [
        ("/data/clips", [], "data.source = '/data/clips': a path of this machine, which no pod can read; put it into"),
        ("s3://b/x", ["--set", "model.weights=./w.pt"], "model.weights = './w.pt': a path of this machine"),
        ("s3://b/x", ["--set", "training.device=cuda:1"], "training.device = 'cuda:1': a pod sees only its own"),
        ("s3://b/x", ["--profile", "gpu-spot"], "gpu-spot: train_model runs on spot nodes, and without a store"),
        ("s3://b/x", ["--profile", "gke"], "profile gke: store = 's3://BUCKET/visionyard': still a placeholder"),
        ("s3://b/x", ["--set", "promotion.store=./seen"], "promotion.store = './seen': a path of this machine"),
        ("s3://b/x", ["--pipeline", "retrain"], "keeps in the store which data it has seen, and none is named"),
        ("s3://b/x", ["--profile", "no"], "no: no such profile; known: "),
        ("s3://b/x", ["--store", "/tmp/x"], "--store /tmp/x: expected s3://bucket/prefix"),
        ("s3://b/x", ["--pipeline", "no"], "no: no such pipeline; known: "),
        ("s3://b/x", ["--set", "training.epochs=0"], "training.epochs = 0"),
    ],
    ids=[
        "local data",
        "local weights",
        "a device",
        "no store",
        "an example",
        "promotion",
        "retrain",
        "profile",
        "local store",
        "pipeline",
        "0",
    ],
)
def test_what_cannot_run_on_a_cluster_is_refused_before_anything_is_sent(
    source: str, arguments: list[str], match: str, folder: Path, stub: KfpStub
):
    _config(folder, source)
    with pytest.raises(ConfigError) as caught:
        _invoke("submit", "run.yaml", "--fresh", *arguments)
    assert match in str(caught.value)
    assert stub.requests == []


BATCH = {"bundle_uri": "s3://models/a", "sources": ["s3://clips/new"], "target_uri": "s3://yard/found"}
BATCH_TEXTS = ["bundle_uri=s3://models/a", "sources=[s3://clips/new]", "target_uri=s3://yard/found"]


def _submit_batch(*texts: str, config: tuple[str, ...] = ()) -> Result:
    words = [word for text in texts for word in ("--parameter", text)]
    return _invoke("submit", *config, "--pipeline", "batch_predict", "--store", "s3://yard/x", *words)


def test_a_pipeline_that_trains_nothing_is_submitted_with_its_own_parameters(folder: Path, stub: KfpStub):
    _submit_batch(*BATCH_TEXTS, "worker_count=4", "rate_hz=0.5", "confidence_threshold=0.01")
    run = _submitted(stub)
    sent = run["runtime_config"]["parameters"]
    assert len(sent.pop("software_digest")) == 64
    assert sent == {**BATCH, "worker_count": 4, "rate_hz": 0.5, "confidence_threshold": 0.01}
    assert run["runtime_config"]["pipeline_root"] == "s3://yard/x/artifacts"
    assert run["display_name"].startswith("batch-predict-20")
    assert stub.experiments[run["experiment_id"]]["display_name"] == "batch-predict"


def test_with_a_run_config_such_a_pipeline_is_of_its_group_and_its_source_is_not_looked_at(
    folder: Path, stub: KfpStub, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    _submit_batch(*BATCH_TEXTS, config=("run.yaml",))
    assert stub.experiments[_submitted(stub)["experiment_id"]]["display_name"] == "parts"


@pytest.mark.parametrize(
    ("texts", "matches"),
    [
        (BATCH_TEXTS[:2], ["target_uri: missing; the pipeline batch-predict has no default for it"]),
        ([*BATCH_TEXTS, "worker_count=many"], ["worker_count = 'many': expected a whole number"]),
        ([*BATCH_TEXTS[:2], "target_uri=found"], ["target_uri: 'found' is a path of this machine, which no pod can"]),
        ([*BATCH_TEXTS, "sources=[s3://a/b, ./clips]"], ["sources: './clips' is a path of this machine"]),
        (
            ["threads=1", "target_uri", "sources=[s3://a"],
            [
                "--parameter threads: the pipeline batch-predict has no such parameter; it has bundle_uri,",
                "--parameter target_uri: expected name=value",
                "--parameter sources=[s3://a: the value is not valid YAML",
            ],
        ),
    ],
    ids=["missing", "type", "local target", "local source", "not read"],
)
def test_parameters_that_cannot_work_are_refused_before_anything_is_sent(
    texts: list[str], matches: list[str], folder: Path, stub: KfpStub
):
    with pytest.raises(ConfigError) as caught:
        _submit_batch(*texts)
    assert len(caught.value.problems) == len(matches)
    assert all(match in str(caught.value) for match in matches), caught.value
    assert not stub.runs


def test_a_pipeline_that_trains_asks_for_its_config(folder: Path, stub: KfpStub):
    with pytest.raises(ConfigError, match=r"train_model: what it trains stands in a run config; name one, such as run"):
        _invoke("submit", "--store", "s3://yard/x")
    assert stub.requests == []


@pytest.mark.usefixtures("quick_retries")
def test_a_source_that_only_the_cluster_reaches_is_told_with_the_way_out(
    folder: Path, stub: KfpStub, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(VisionyardError, match="submit with --fresh"):
        _invoke("submit", "run.yaml")
    assert stub.requests == []


def test_what_other_inputs_hold_is_sent_and_paths_of_this_machine_are_refused(
    folder: Path, stub: KfpStub, s3: str, monkeypatch: pytest.MonkeyPatch
):
    (folder / "splits.csv").write_text("name,split\na,train\n")
    with pytest.raises(ConfigError) as told:
        _invoke(
            *("submit", "run.yaml", "--store", "s3://yard/x", "--fresh"),
            *("--set", "data.split_file=splits.csv", "--set", "frames.anonymize.model=faces.onnx"),
        )
    named = ["'splits.csv'", "'faces.onnx'", "'faces.spec.yaml'"]
    assert len(told.value.problems) == 3
    assert all(name in problem for name, problem in zip(named, told.value.problems, strict=True))

    storage.upload_file(folder / "splits.csv", f"{s3}/splits.csv")
    storage.upload_file(folder / "splits.csv", f"{s3}/clips/a.txt")
    for name in ("model.json", "model.onnx"):
        storage.write_bytes(f"{s3}/faces/{name}", b"1")
    sets = [f"data.source={s3}/clips", f"data.split_file={s3}/splits.csv", f"frames.anonymize.model={s3}/faces"]
    command = ["submit", "run.yaml", "--store", "s3://yard/x", *(word for one in sets for word in ("--set", one))]

    def sent(*options: str) -> dict[str, Any]:
        before = set(stub.runs)
        _invoke(*command, *options)
        (run_id,) = set(stub.runs) - before
        run: dict[str, Any] = stub.runs[run_id]
        return run

    def parameters(run: dict[str, Any]) -> tuple[str, str]:
        values = run["runtime_config"]["parameters"]
        return values.get("data_split_file_digest", ""), values.get("frames_anonymize_digest", "")

    first, again = parameters(sent()), parameters(sent())
    assert first == again and all(first)
    storage.write_bytes(f"{s3}/splits.csv", b"name,split\na,test\n")
    storage.write_bytes(f"{s3}/faces/model.onnx", b"2")
    changed = parameters(sent())
    assert changed[0] != first[0] and changed[1] != first[1]
    # Not looked at: what would take them from the cache looks anew.
    fresh = sent("--fresh")
    assert parameters(fresh) == ("", "")
    tasks = fresh["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]
    for name in ("ingest-dataset", "extract-frames", "prepare-dataset"):
        assert tasks[name]["cachingOptions"] == {}, name


def test_waiting_follows_the_run_and_says_why_it_failed(folder: Path, stub: KfpStub):
    def answer(method: str, path: str, query: dict[str, str], body: dict[str, Any]) -> Any:
        if method == "GET" and path.startswith("/apis/v2beta1/runs/"):
            run_id = path.rpartition("/")[2]
            failed = task("train-model", "Failed", tries=[("", "main: Error (exit code 1)")])
            stub.workflows[run_id] = workflow(task("ingest-dataset", tries=()), failed, omitted("export-model"))
            said = "much\ntrain_model failed (out_of_memory): 8 GiB\nWhat to do: less\n"
            launcher = "I1122 02:17:47.203340      15 launcher_v2.go:867] Executing uploadOutputArtifacts attempt: 1\n"
            last = "F1122 02:17:47.298976      15 main.go:130] failed to execute component: exit status 1\n"
            argo = 'time=2026-11-22T02:22:00.523Z level=INFO msg="sub-process exited" argo=true error=<nil>\n'
            inputs = 'I1122 02:17:46.2 15 x.go:1] Running with {\n  "inputs": {\n    "outputFile": "/x"\n  }\n}\n'
            stub.logs[run_id, pod_of("train-model")] = inputs + said + 30 * launcher + last + 20 * argo
            stub.runs[run_id]["state"] = "FAILED"
        return KfpStub.answer(stub, method, path, query, body)

    stub.answer = answer  # type: ignore[method-assign]
    result = _invoke("submit", "run.yaml", "--fresh", "--wait")
    assert result.exit_code == 1
    assert "cached  ingest-dataset\n" in result.output
    assert "failed  train-model  21 s  main: Error (exit code 1)" in result.output
    assert "skipped  export-model\n" in result.output
    assert "train_model failed (out_of_memory): 8 GiB" in result.output
    assert "launcher_v2.go" not in result.output
    assert "argo=true" not in result.output
    assert "== train-model\nmuch\ntrain_model failed" in result.output
    assert "failed to execute component: exit status 1" in result.output


def _add_run(stub: KfpStub, run_id: str, state: str, **more: Any) -> None:
    stub.runs[run_id] = {
        "run_id": run_id,
        "display_name": f"name-{run_id}",
        "experiment_id": "e",
        "state": state,
        "created_at": "2026-11-01T00:00:00Z",
        "finished_at": "1970-01-01T00:00:00Z",
        **more,
    }


def test_why_a_stage_waits_is_told_once_and_a_cancelled_run_is_no_failed_one(
    stub: KfpStub, monkeypatch: pytest.MonkeyPatch
):
    _add_run(stub, "aaa-1", "RUNNING", state_history=[{"state": "RUNNING"}])
    # Argo words one and the same wait in two ways, in turn.
    words = iter(["", "ErrImagePull: no host", "ImagePullBackOff: x", "ErrImagePull: no host", "ImagePullBackOff: x"])

    def wait(_seconds: float) -> None:
        said = next(words, None)
        if said is None:
            stub.runs["aaa-1"] |= {"state": "FAILED", "state_history": [{"state": "CANCELING"}, {"state": "FAILED"}]}
        else:
            stub.workflows["aaa-1"] = workflow(task("train-model", "Running", tries=[("Pending", said)]))

    monkeypatch.setattr(runs.time, "sleep", wait)
    result = _invoke("runs", "watch", "aaa")
    assert result.exit_code == 1
    assert [line.strip() for line in result.output.splitlines()] == [
        "pending  train-model",
        "pending  train-model  ErrImagePull: no host",
        "pending  train-model  ImagePullBackOff: x",
        "run aaa-1: CANCELED",
    ]


def test_runs_are_listed_watched_and_cancelled_by_the_first_letters_of_their_id(stub: KfpStub):
    _add_run(stub, "aaa-1", "SUCCEEDED", finished_at="2026-11-01T00:02:05Z")
    _add_run(stub, "abb-2", "RUNNING")
    listed = _invoke("runs", "list").output
    assert "aaa-1                                 SUCCEEDED  2026-11-01 00:00   2 m 05 s  name-aaa-1\n" in listed
    assert _invoke("runs", "watch", "aaa").exit_code == 0
    assert "asked to stop" in _invoke("runs", "cancel", "abb").output
    assert stub.runs["abb-2"]["state"] == "CANCELING"
    with pytest.raises(ConfigError, match="a: 2 runs begin so, give more letters"):
        _invoke("runs", "watch", "a")
    for unknown in ("x", "b-2"):
        with pytest.raises(ConfigError, match=f"{unknown}: no run begins so"):
            _invoke("runs", "cancel", unknown)


def test_a_list_makes_no_experiment(stub: KfpStub):
    with pytest.raises(ConfigError, match="parst: no such experiment"):
        _invoke("runs", "list", "--experiment", "parst")
    assert stub.changes() == []


def test_watching_outlives_a_server_that_restarts(stub: KfpStub, monkeypatch: pytest.MonkeyPatch):
    _add_run(stub, "aaa-1", "RUNNING")
    read, answers = KfpApi.run, iter(["there", "gone", "gone", "ended"])

    def run(api: KfpApi, run_id: str) -> dict[str, Any]:
        answer = next(answers)
        if answer == "gone":
            raise NoAnswerError("no answer from Kubeflow Pipelines")
        if answer == "ended":
            stub.runs["aaa-1"]["state"] = "SUCCEEDED"
        return read(api, run_id)

    monkeypatch.setattr(KfpApi, "run", run)
    assert _invoke("runs", "watch", "aaa").exit_code == 0
    answers = iter(["gone"])
    with pytest.raises(NoAnswerError):
        _invoke("runs", "watch", "aaa")
    monkeypatch.setattr(runs, "PATIENCE_S", 0.0)
    stub.runs["aaa-1"]["state"] = "RUNNING"
    answers = iter(["there", "gone"])
    with pytest.raises(NoAnswerError):
        _invoke("runs", "watch", "aaa")


def test_logs_are_those_of_the_failed_stages_or_of_the_one_named(stub: KfpStub):
    failed, cached = task("train-model", "Failed"), task("ingest-dataset", tries=())
    _add_run(stub, "aaa-1", "FAILED")
    stub.workflows["aaa-1"] = workflow(cached, failed, task("export-model"))
    stub.logs["aaa-1", pod_of("train-model")] = "[trained]"
    stub.logs["aaa-1", pod_of("export-model")] = '{"error": "of its own"}'
    assert "[trained]" in _invoke("runs", "logs", "aaa").output
    named = _invoke("runs", "logs", "aaa", "export_model").output
    assert '{"error": "of its own"}' in named
    assert "[trained]" not in named
    assert "ingest-dataset: taken from the cache, no pod ran" in _invoke("runs", "logs", "aaa", "ingest_dataset").output
    with pytest.raises(
        ConfigError, match=r"deploy_model: there is none .* its stages: export-model, ingest-dataset, train-model"
    ):
        _invoke("runs", "logs", "aaa", "deploy_model")
    stub.is_page = True
    assert "[trained]" in _invoke("runs", "logs", "aaa").output
    del stub.logs["aaa-1", pod_of("train-model")]
    with pytest.raises(VisionyardError, match=r"its log cannot be read.*refused with 500: .*Could not get main"):
        _invoke("runs", "logs", "aaa")
    stub.is_page = False
    with pytest.raises(VisionyardError, match=r"its log cannot be read.*Failed to read logs.*below `events`"):
        _invoke("runs", "logs", "aaa")


def _schedules(folder: Path, count: int, **values: Any) -> None:
    one = {"pipeline": "train_model", "config": "run.yaml", "cron": "0 2 * * *", "owner": "vision", **values}
    content = {"schedules": [{"name": f"camera-{number}", **one} for number in range(count)]}
    (folder / "schedules.yaml").write_text(json.dumps(content))


def test_a_hundred_schedules_applied_twice_leave_a_hundred(folder: Path, stub: KfpStub):
    _schedules(folder, 100)
    first = _invoke("schedule", "apply", "schedules.yaml", "--store", "s3://yard/x")
    assert "100 created, 0 replaced, 0 unchanged, 0 removed" in first.output
    again = _invoke("schedule", "apply", "schedules.yaml", "--store", "s3://yard/x")
    assert "0 created, 0 replaced, 100 unchanged, 0 removed" in again.output
    assert len(stub.schedules) == 100
    sent = next(iter(stub.schedules.values()))
    assert sent["runtime_config"]["parameters"]["data_digest"] == ""
    # A nightly run that took the source from the cache would never see new data.
    tasks = sent["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]
    assert tasks["ingest-dataset"]["cachingOptions"] == {}


def test_a_pipeline_that_trains_nothing_is_scheduled_with_its_own_parameters(folder: Path, stub: KfpStub):
    own = {"bundle_uri": "s3://models/a", "sources": ["s3://clips/new"], "target_uri": "s3://yard/found"}
    _schedules(folder, 1, pipeline="batch_predict", parameters=own)
    assert "camera-0: created" in _invoke("schedule", "apply", "schedules.yaml").output
    sent = next(iter(stub.schedules.values()))["runtime_config"]["parameters"]
    assert {name: sent[name] for name in own} == own
    assert "model_name" not in sent
    _schedules(folder, 1, pipeline="batch_predict", parameters={**own, "target_uri": "found"})
    with pytest.raises(ConfigError, match="camera-0: target_uri: 'found' is a path of this machine"):
        _invoke("schedule", "apply", "schedules.yaml")


def test_schedules_are_pruned_listed_checked_and_deleted(folder: Path, stub: KfpStub):
    _schedules(folder, 2, freshness_hours=24)
    _invoke("schedule", "apply", "schedules.yaml")
    _schedules(folder, 1, freshness_hours=24)
    assert "not in the file, but left: camera-1" in _invoke("schedule", "apply", "schedules.yaml").output
    assert "camera-1: removed" in _invoke("schedule", "apply", "schedules.yaml", "--prune").output
    listed = _invoke("schedule", "list", "--check")
    assert listed.exit_code == 1
    assert "never" in listed.output
    assert _invoke("schedule", "list").exit_code == 0
    assert "camera-0: removed" in _invoke("schedule", "delete", "camera-0").output
    assert "no schedules" in _invoke("schedule", "list").output


def test_all_mistakes_of_all_schedules_are_told_and_nothing_is_sent(folder: Path, stub: KfpStub):
    _schedules(folder, 2, profile="gpu-spot", parameters={"typo": 1})
    _config(folder, "/data")
    with pytest.raises(ConfigError) as caught:
        _invoke("schedule", "apply", "schedules.yaml")
    assert len(caught.value.problems) == 4
    assert "camera-1: data.source = '/data'" in str(caught.value)
    _config(folder)
    _schedules(folder, 1, parameters={"typo": 1})
    with pytest.raises(ConfigError, match=r"camera-0: typo: the pipeline .* has no such parameter"):
        _invoke("schedule", "apply", "schedules.yaml")
    assert stub.requests == []


def test_profiles_are_listed_and_shown():
    assert "gpu-spot" in _invoke("profiles").output
    shown = _invoke("profiles", "show", "gpu").output
    assert "nvidia.com/gpu" in shown
    assert "1536Mi" in shown


PRICES = "currency: EUR\ncpu_hour: 0.05\nmemory_gb_hour: 0.0\naccelerator_hour: {nvidia.com/gpu: 0.6}\n"


def test_an_estimate_multiplies_stated_times_with_what_the_pods_hold(folder: Path):
    (folder / "prices.yaml").write_text(PRICES)
    arguments = ["cost", "estimate", "run.yaml", "--prices", "prices.yaml", "--profile", "gpu"]
    # 2 h of 8 cores and a GPU, 30 min of 2 cores.
    output = _invoke(*arguments, "--minutes", "train_model=120", "--minutes", "export_model=30").output
    assert "2.0500 EUR" in output
    with pytest.raises(ConfigError, match="nothing is known of how long parts takes"):
        _invoke(*arguments)
    with pytest.raises(ConfigError, match="--minutes train: no such stage"):
        _invoke(*arguments, "--minutes", "train=1")
    with pytest.raises(ConfigError, match="--minutes export_model: expected STAGE=MINUTES"):
        _invoke(*arguments, "--minutes", "export_model")


def test_an_estimate_takes_the_times_of_the_newest_run_and_scales_training_by_its_epochs(folder: Path):
    (folder / "prices.yaml").write_text(PRICES)
    run = folder / "runs/parts-1"
    run.mkdir(parents=True)
    (run / "run.json").write_text('{"schema_version": 1, "status": "done"}')
    events = []
    for stage, elapsed_s, figures in (("train_model", 720.0, {"epochs": 2}), ("export_model", 360.0, {})):
        common = {"run": "parts-1", "stage": stage, "attempt": stage}
        events.append({"time": 1.0, "kind": "stage_started", **common})
        events.append({"time": 2.0, "kind": "stage_finished", "elapsed_s": elapsed_s, "figures": figures, **common})
    (run / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    # 7 epochs in place of 2: 42 min of 2 cores; and 6 min of 2 cores.
    output = _invoke("cost", "estimate", "run.yaml", "--prices", "prices.yaml").output
    assert "0.0800 EUR" in output
    assert "times of parts-1" in output
