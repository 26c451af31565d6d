"""Reading a run config: every mistake at once, each with path, value and way out; files, environment, overrides."""

from pathlib import Path

import pytest

from visionyard.config import RunConfig, describe_problems, field_names, load_run_config, parse_run_config
from visionyard.errors import ConfigError

DATA = {"source": "clips"}


def load(folder: Path, text: str, *, overrides: tuple[str, ...] = (), **environment: str) -> RunConfig:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return load_run_config(path, overrides=overrides, environment=environment)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        pytest.param({}, "data: missing; it has no default and must be given", id="no data"),
        pytest.param({"data": {}}, "data.source: missing; it has no default and must be given", id="no source"),
        pytest.param({"data": {"source": " "}}, "data.source = ' ': expected a text, got an empty one", id="blank"),
        pytest.param({"data": "clips"}, "data = 'clips': expected a section of keys and values", id="section is text"),
        pytest.param(
            {"data": DATA, "trainig": {"epochs": 3}}, "trainig: unknown key; did you mean training?", id="section name"
        ),
        pytest.param(
            {"data": DATA, "training": {"epoch": 3}},
            "training.epoch: unknown key; did you mean training.epochs?",
            id="key name",
        ),
        pytest.param(
            {"data": DATA, "frames": {"epochs": 3}},
            "frames.epochs: unknown key; did you mean training.epochs?",
            id="key of another section",
        ),
        pytest.param(
            {"data": DATA, "export": {"xyz": 3}},
            "export.xyz: unknown key; known here: formats, opset, score_tolerance, metric_tolerance, "
            "int8_metric_tolerance",
            id="key like no other",
        ),
        pytest.param(
            {"data": DATA, "training": {"epochs": "many"}},
            "training.epochs = 'many': input should be a valid integer, unable to parse string as an integer",
            id="text for a number",
        ),
        pytest.param(
            {"data": DATA, "training": {"epochs": True}},
            "training.epochs = True: expected a number, got true",
            id="flag for a number",
        ),
        pytest.param(
            {"data": {**DATA, "group_pattern": "clip("}},
            "data.group_pattern = 'clip(': not a regular expression: missing ), unterminated subpattern at position 4",
            id="broken pattern",
        ),
        pytest.param(
            {"data": {**DATA, "group_pattern": "clip"}},
            "data.group_pattern = 'clip': its first group, in round brackets, names the scene; it has none",
            id="pattern without a group",
        ),
        pytest.param(
            {"data": DATA, "training": {"epochs": 2.5}},
            "training.epochs = 2.5: input should be a valid integer, got a number with a fractional part",
            id="half an epoch",
        ),
        pytest.param(
            {"data": DATA, "training": {"epochs": 0}},
            "training.epochs = 0: input should be greater than or equal to 1",
            id="below the range",
        ),
        pytest.param(
            {"data": DATA, "training": {"learning_rate": float("nan")}},
            "training.learning_rate = nan: input should be a finite number",
            id="not a number",
        ),
        pytest.param(
            {"data": {**DATA, "val_fraction": 0.5, "test_fraction": 0.45}},
            "data: val_fraction 0.5 + test_fraction 0.45 leave nothing to train on; their sum must stay below 0.95",
            id="fractions",
        ),
        pytest.param(
            {"data": {**DATA, "classes": [0]}}, "data.classes.0 = 0: expected text; put it in quotes", id="class number"
        ),
        pytest.param(
            {"data": DATA, "export": {"formats": ["onx"]}},
            "export.formats.0 = 'onx': input should be 'onnx', 'torchscript', 'onnx-fp16', 'onnx-int8' or 'openvino'",
            id="format",
        ),
        pytest.param(
            {"data": DATA, "frames": {"anonymize": {"modle": "faces"}}},
            "frames.anonymize.modle: unknown key; did you mean frames.anonymize.model?",
            id="key of an inner section",
        ),
        pytest.param(
            {"data": {**DATA, "split_file": "s.csv", "folds": 3}},
            "data: split_file 's.csv': folds = 3 draws all splits; leave it out",
            id="split file and folds",
        ),
        pytest.param(
            {"data": {**DATA, "split_file": "s.csv", "kind": "table"}},
            "data: split_file 's.csv': of kind table a column says the split; leave it out",
            id="split file of a table",
        ),
        pytest.param(
            {"data": DATA, "export": {"formats": []}},
            "export.formats = []: expected at least one entry",
            id="no format",
        ),
        pytest.param(
            {"data": DATA, "benchmark": {"batch_sizes": [8, 0]}},
            "benchmark: batch_sizes holds 0; each must be 1 or more",
            id="batch of none",
        ),
        pytest.param(
            {"data": DATA, "name": "My Run"},
            "name = 'My Run': string should match pattern '^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$'",
            id="name",
        ),
        pytest.param({"data": DATA, 7: {}}, "7 = 7: expected a name as key", id="key is a number"),
    ],
)
def test_mistakes_name_path_value_and_way_out(values: dict, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_run_config(values)
    assert caught.value.problems == [problem]


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(
            tmp_path,
            "data: {kind: images_of_no_kind}\ntraining: {epochs: many, lr: 1}",
            overrides=("training.epochs", "frames.rat_hz=3", "frames.rate_hz=[1"),
            VISIONYARD_SET_MODEL__NAM="x",
        )
    assert [problem.split(": ")[0] for problem in caught.value.problems] == [
        "--set training.epochs",
        "VISIONYARD_SET_MODEL__NAM",
        "--set",
        "--set",
        "data.source",
        "data.kind = 'images_of_no_kind'",
        "training.epochs = 'many'",
        "training.lr",
    ]
    assert "--set: frames.rat_hz: unknown key; did you mean frames.rate_hz?" in caught.value.problems


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("data: [", r"run\.yaml: not valid YAML: .*line 1", id="not YAML"),
        pytest.param("- a\n- b", r"run\.yaml: expected sections such as `data:`, got \['a', 'b'\]", id="a list"),
        pytest.param("", "data: missing", id="empty"),
        pytest.param("# only comments\ndata:\n", r"data\.source: missing", id="all commented out"),
        pytest.param("data: {source: a}\ndata: {source: b}", "'data' is given twice .*line 2", id="section twice"),
        pytest.param("data:\n  source: a\n  source: b", "'source' is given twice .*line 3", id="key twice"),
        pytest.param("data: {source: a}\n? [x, y]\n: 1", "not valid YAML", id="a list as key"),
        pytest.param("data: !!python/object/apply:os.getcwd []", "not valid YAML", id="code"),
    ],
)
def test_files_that_are_no_config(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, text)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file; `visionyard init` writes"):
        load_run_config(tmp_path / "nowhere.yaml")


def test_binary_file(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"run\.yaml: cannot be read as UTF-8"):
        load_run_config(path)


def test_folder_instead_of_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_run_config(tmp_path)


def test_environment_wins_over_file_and_overrides_over_both(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "data: {source: a}\ntraining: {epochs: 1, seed: 1, patience: 1}",
        overrides=("training.patience=2", "training.patience=3"),
        VISIONYARD_SET_TRAINING__SEED="2",
        VISIONYARD_SET_TRAINING__PATIENCE="9",
        OTHER="x",
    )
    assert (config.training.epochs, config.training.seed, config.training.patience) == (1, 2, 3)


def test_process_environment_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("data: {source: a}")
    monkeypatch.setenv("VISIONYARD_SET_TRAINING__EPOCHS", "7")
    assert load_run_config(path).training.epochs == 7
    assert load_run_config(path, environment={}).training.epochs == 20


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("data.source=s3://bucket/a=b", "data", "source", "s3://bucket/a=b"),
        ("data.source= spaces around ", "data", "source", "spaces around"),
        ("data.classes=[cat, dog]", "data", "classes", ["cat", "dog"]),
        ("data.allow_leak=yes", "data", "allow_leak", True),
        ("data.group_pattern=^(\\d+): ", "data", "group_pattern", "^(\\d+):"),
        ("model.preset=2024", "model", "preset", "2024"),
        ("model.weights=", "model", "weights", ""),
        ("model.options.mosaic=0.5", "model", "options", {"mosaic": 0.5}),
        ("model.options.a.b=[1]", "model", "options", {"a": {"b": [1]}}),
        ("training.mixed_precision=no", "training", "mixed_precision", "no"),
        ("training.learning_rate=1e-3", "training", "learning_rate", 0.001),
        ("benchmark.threads=[1.0, 2]", "benchmark", "threads", [1, 2]),
    ],
)
def test_overrides_are_read_as_the_field_wants(
    tmp_path: Path, override: str, section: str, key: str, value: object
) -> None:
    config = load(tmp_path, "data: {source: a}", overrides=(override,))
    assert getattr(getattr(config, section), key) == value


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epochs", r"--set training\.epochs: expected section\.key=value"),
        ("=3", "--set =3: expected section.key=value"),
        ("training=3", "--set: training: unknown key; did you mean training"),
        ("training.epochs=[", r"--set: training\.epochs = '\[': not valid YAML"),
        ("model.option.x=1", "model.option.x: unknown key; did you mean model.options?"),
        ("training.epochs=", r"training\.epochs = '': input should be a valid integer"),
    ],
)
def test_wrong_overrides(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, "data: {source: a}", overrides=(override,))


def test_an_override_does_not_hide_a_section_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="data = 'clips': expected a section"):
        load(tmp_path, "data: clips", overrides=("data.source=clips",))


def test_bare_no_and_empty_sections_are_understood(tmp_path: Path) -> None:
    config = load(tmp_path, "data: {source: clips}\ntraining: {mixed_precision: no}\nframes:\n")
    assert config == RunConfig(data=DATA)
    assert config.training.mixed_precision == "no"


def test_a_config_is_frozen() -> None:
    config = parse_run_config({"data": DATA})
    with pytest.raises(ValueError, match="frozen"):
        config.training.epochs = 3


def test_field_names_are_dotted_and_unique() -> None:
    names = field_names(RunConfig)
    assert names[:3] == ["name", "data.source", "data.kind"]
    assert "model.options" in names
    assert len(set(names)) == len(names)


def test_problems_of_another_model_name_its_own_fields() -> None:
    from pydantic import ValidationError

    from visionyard.config import Section

    class Options(Section):
        mosaic: float = 1.0

    with pytest.raises(ValidationError) as caught:
        Options.model_validate({"mosiac": 1})
    assert describe_problems(caught.value, Options) == ["mosiac: unknown key; did you mean mosaic?"]


def test_a_section_within_a_section_is_set_like_any_other(tmp_path: Path) -> None:
    text = "data: {source: clips}\nframes:\n  anonymize:\n    # model: faces\n"
    overrides = ("frames.anonymize.classes=[face]", "frames.anonymize.confidence=0.5")
    config = load(tmp_path, text, overrides=overrides, VISIONYARD_SET_FRAMES__ANONYMIZE__MODEL="faces")
    anonymize = config.frames.anonymize
    assert (anonymize.model, anonymize.classes, anonymize.confidence) == ("faces", ["face"], 0.5)
    assert load(tmp_path, text).frames.anonymize.model == ""
