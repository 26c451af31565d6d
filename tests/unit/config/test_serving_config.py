"""Reading a serving config: lists of models, every mistake at once, environment and overrides as for the run config."""

from pathlib import Path
from typing import Any

import pytest

from visionyard.config import ServingConfig, load_serving_config, parse_serving_config
from visionyard.errors import ConfigError


def load(folder: Path, text: str, *, overrides: tuple[str, ...] = (), **environment: str) -> ServingConfig:
    path = folder / "serving.yaml"
    path.write_text(text, encoding="utf-8")
    return load_serving_config(path, overrides=overrides, environment=environment)


def test_a_file_with_models_and_sections(tmp_path: Path) -> None:
    text = """
    models:
      - {name: digits, path: bundles/digits}
      - {path: "s3://yard/cones", format: onnx, instances: 2}
    batching: {max_size: 4}
    log_level: warning
    """
    config = load(tmp_path, text)
    assert [(model.name, model.path) for model in config.models] == [
        ("digits", "bundles/digits"),
        ("", "s3://yard/cones"),
    ]
    assert (config.models[1].instances, config.batching.max_size, config.log_level) == (2, 4, "warning")


def test_no_file_is_the_defaults() -> None:
    assert load_serving_config(environment={}) == ServingConfig()


def test_environment_wins_over_file_and_overrides_over_both(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "batching: {max_size: 2, queue_size: 32, max_delay_ms: 1}",
        overrides=("batching.max_size=4",),
        VISIONYARD_SERVE_BATCHING__MAX_SIZE="3",
        VISIONYARD_SERVE_BATCHING__QUEUE_SIZE="48",
        VISIONYARD_SET_BATCHING__MAX_DELAY_MS="9",
    )
    assert (config.batching.max_size, config.batching.queue_size, config.batching.max_delay_ms) == (4, 48, 1)


@pytest.mark.parametrize(
    ("override", "read"),
    [
        pytest.param("models=[{path: digits}]", lambda config: config.models[0].path == "digits", id="list of models"),
        pytest.param("url_inputs.allow=[a.example]", lambda c: c.url_inputs.allow == ["a.example"], id="list of texts"),
        pytest.param("server.root_path=/vision", lambda config: config.server.root_path == "/vision", id="text"),
        pytest.param("auth.keys_file=2024", lambda config: config.auth.keys_file == "2024", id="text like a number"),
        pytest.param("arms.weights.old=1", lambda config: config.arms.weights == {"old": 1.0}, id="entry of a mapping"),
        pytest.param("log_level=error", lambda config: config.log_level == "error", id="without section"),
    ],
)
def test_overrides_are_read_as_the_field_wants(override: str, read: Any) -> None:
    assert read(load_serving_config(overrides=(override,), environment={}))


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        pytest.param({"models": [{"name": "a"}]}, "models.0.path: missing; it has no default", id="no path"),
        pytest.param(
            {"models": [{"path": "a"}, {"pth": "b", "path": "c"}]},
            "models.1.pth: unknown key; did you mean models.1.path?",
            id="key of a model",
        ),
        pytest.param(
            {"models": [{"path": "a", "colour": 1}]},
            "models.0.colour: unknown key; known here: name, path, format, device, threads, instances",
            id="key like no other",
        ),
        pytest.param({"models": {"path": "a"}}, "models: input should be a valid list", id="one model, no list"),
        pytest.param({"models": [{"path": ""}]}, "models.0.path = '': expected a text", id="empty path"),
        pytest.param({"models": [{"path": "a", "name": "a/b"}]}, "models.0.name = 'a/b': string should", id="name"),
        pytest.param(
            {"models": [{"path": "a", "name": "x"}, {"path": "b", "name": "x"}]},
            "models: the name 'x' is given twice; each needs its own",
            id="name twice",
        ),
        pytest.param({"baching": {}}, "baching: unknown key; did you mean batching?", id="section"),
        pytest.param({"server": {"http_port": 70000}}, "server.http_port = 70000: input should be less", id="port"),
        pytest.param({"tls": {"cert_file": "a"}}, "tls: cert_file and key_file go together", id="half of TLS"),
        pytest.param({"cache": {"redis_url": "a"}}, "cache.redis_url = 'a': string should match", id="Redis"),
        pytest.param(
            {"limits": {"max_images": 100}},
            "limits.max_images 100 is above batching.queue_size 64; a request that large could never be admitted",
            id="request larger than the queue",
        ),
        pytest.param(
            {"arms": {"name": "a", "weights": {"b": 0.5}}}, "arms: weights sum to 0.5, expected 1", id="shares"
        ),
    ],
)
def test_mistakes_name_path_value_and_way_out(values: dict, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_serving_config(values)
    assert len(caught.value.problems) == 1
    assert problem in caught.value.problems[0]


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(
            tmp_path,
            "models: [{path: ''}]\nbatching: {max_size: -1}\nlog_level: loud",
            overrides=("batching.max_size", "cache.ttl=3"),
            VISIONYARD_SERVE_SERVER__PRT="1",
        )
    assert [problem.split(": ")[0] for problem in caught.value.problems] == [
        "--set batching.max_size",
        "VISIONYARD_SERVE_SERVER__PRT",
        "--set",
        "models.0.path = ''",
        "batching.max_size = -1",
        "log_level = 'loud'",
    ]
    assert "such as batching.max_size=4" in caught.value.problems[0]


def test_missing_file_and_no_mapping(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file; docs/serving-config\.md"):
        load_serving_config(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match=r"serving\.yaml: expected sections such as `server:`, got \['a'\]"):
        load(tmp_path, "- a")


def test_the_page_shows_every_key() -> None:
    from visionyard.cli.docs import serving_config_page
    from visionyard.config import ServedModelConfig, field_names

    text = serving_config_page()
    keys = [name.rpartition(".")[2] for name in field_names(ServingConfig) if name != "models"]
    for key in keys + field_names(ServedModelConfig):
        assert f"| `{key}` |" in text
