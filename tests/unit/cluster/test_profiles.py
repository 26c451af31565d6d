"""Profiles: what they settle, and what they refuse."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from visionyard.cluster.profiles import load_profile, profile_names
from visionyard.cluster.quantities import format_mebibytes, parse_cpu, parse_memory
from visionyard.cluster.shared_memory import shared_memory_bytes
from visionyard.errors import ConfigError

STAGES = ["ingest_dataset", "extract_frames", "prepare_dataset", "export_model", "benchmark_model"]


def _write(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path


def test_the_profiles_of_the_issue_are_there():
    wanted = {"cpu", "gpu", "gpu-spot", "gpu-multi", "gke", "eks", "aks", "openshift", "bare-metal"}
    assert wanted <= set(profile_names())


@pytest.mark.parametrize("name", profile_names())
def test_each_shipped_profile_says_what_it_is_for_and_keeps_cpu_stages_off_accelerators(name: str):
    profile = load_profile(name)
    assert profile.file.description
    for stage in STAGES:
        assert profile.stage(stage).accelerator_count == 0
        assert not any("gpu" in item.key for item in profile.stage(stage).tolerations)


@pytest.mark.parametrize("name", [name for name in profile_names() if name != "cpu"])
def test_stages_with_an_accelerator_tolerate_its_taint_and_have_shared_memory(name: str):
    train = load_profile(name).stage("train_model")
    assert (train.accelerator_type, train.accelerator_count) == ("nvidia.com/gpu", 1)
    assert "nvidia.com/gpu" in {item.key for item in train.tolerations}
    # 8 processes x 2 batches x 16 images of 640 px in float32, and a quarter: 1500 MiB, in steps of 256.
    assert train.shm_bytes == 1536 << 20


def test_spot_stages_are_made_again_when_their_node_goes():
    train = load_profile("gpu-spot").stage("train_model")
    assert train.retries == 10
    assert load_profile("gpu-spot").is_spot("train_model")
    assert not load_profile("gpu-spot").is_spot("export_model")


def test_a_stages_values_lie_over_the_defaults(tmp_path: Path):
    path = _write(
        tmp_path / "own.yaml",
        {
            "store": "s3://bucket/prefix/",
            "defaults": {"cpu_limit": 2, "memory_limit": "4Gi", "labels": {"team": "vision"}, "env": {"A": "1"}},
            "stages": {"train_model": {"cpu_limit": 8, "labels": {"kind": "train"}, "queue": "line"}},
        },
    )
    profile = load_profile(path)
    train, other = profile.stage("train_model"), profile.stage("export_model")
    assert (train.cpu_limit, train.memory_limit) == ("8", "4Gi")
    assert train.labels == {"team": "vision", "kind": "train", "kueue.x-k8s.io/queue-name": "line"}
    assert (other.cpu_limit, other.labels) == ("2", {"team": "vision"})
    assert other.env == {"A": "1", "VISIONYARD_EVENTS": "s3://bucket/prefix/events"}
    assert profile.with_store("s3://other").store == "s3://other"


def test_a_profile_changes_the_one_it_extends(tmp_path: Path):
    path = _write(
        tmp_path / "own.yaml", {"extends": "gpu", "stages": {"train_model": {"memory_limit": "64Gi", "queue": "line"}}}
    )
    train = load_profile(path).stage("train_model")
    assert (train.memory_limit, train.cpu_limit, train.accelerator_count) == ("64Gi", "8", 1)
    further = _write(tmp_path / "further.yaml", {"extends": "own.yaml", "stages": {"train_model": {"retries": 1}}})
    assert load_profile(further).stage("train_model").memory_limit == "64Gi"


def test_a_profile_that_extends_itself_is_refused(tmp_path: Path):
    _write(tmp_path / "a.yaml", {"extends": "b.yaml"})
    _write(tmp_path / "b.yaml", {"extends": "a.yaml"})
    with pytest.raises(ConfigError, match="extends itself"):
        load_profile(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("values", "stage", "expected"),
    [
        ({}, "train_model", "visionyard/train-python:1"),
        ({"image_prefix": "reg:5000/x/"}, "train_model", "reg:5000/x/train-python:1"),
        ({"images": {"train-python": "train-cpu-python"}}, "train_model", "visionyard/train-cpu-python:1"),
        ({"images": {"train-python": "reg/own@sha256:00"}, "image_prefix": "no"}, "train_model", "reg/own@sha256:00"),
        ({"stages": {"train_model": {"image": "reg/mine:2"}}}, "train_model", "reg/mine:2"),
        ({"stages": {"train_model": {"image": "train-cpu-python"}}}, "export_model", "visionyard/train-python:1"),
    ],
    ids=["as named", "another registry", "another of ours", "by digest", "one stage's own", "and not another's"],
)
def test_images_are_renamed(values: dict[str, Any], stage: str, expected: str, tmp_path: Path):
    profile = load_profile(_write(tmp_path / "own.yaml", {"description": "x", **values}))
    assert profile.image(stage, "visionyard/train-python:1") == expected


@pytest.mark.parametrize(
    ("stage", "match"),
    [
        ({"accelerator_count": 1}, "accelerator_count 1 without accelerator_type"),
        ({"accelerator_count": 2, "accelerator_type": "nvidia.com/gpu"}, "no stage can use several"),
        ({"accelerator_count": 1, "accelerator_type": "gpu"}, "'gpu' is no resource name"),
        ({"cpu_request": "2", "cpu_limit": "500m"}, "cpu_request 2 is more than cpu_limit 500m"),
        ({"memory_request": "5Gi", "memory_limit": "4G"}, "memory_request 5Gi is more than memory_limit 4G"),
        ({"memory_limit": "8GB"}, "memory_limit = '8GB': .*512Mi or 8Gi"),
        ({"cpu_limit": "4 cores"}, "cpu_limit = '4 cores'.*500m"),
        ({"spot": True}, "spot without a toleration"),
        ({"spot": True, "tolerations": [{"key": "spot", "operator": "Exists", "effect": "PreferNoSchedule"}]}, "spot"),
        ({"shm": "8Gi", "memory_limit": "4Gi"}, "shm 8Gi is larger than memory_limit 4Gi"),
        ({"priority_class": "high"}, "priority_class 'high' without queue"),
        (
            {"tolerations": [{"operator": "Exists", "key": "a", "value": "b"}]},
            "operator Exists takes no value, got 'b'",
        ),
        ({"tolerations": [{"value": "b"}]}, "operator Equal needs a key"),
        ({"affinity": [{"match": [{"key": "a"}]}]}, "operator In takes at least one value"),
        ({"affinity": [{"match": [{"key": "a", "operator": "Exists", "values": ["b"]}]}]}, "Exists takes no values"),
        ({"memory": "4Gi"}, "memory: unknown key"),
        ({"run_as_user": 0}, "run_as_user = 0: "),
        ({"accelerator_count": True}, "expected a number, got true"),
        ({"timeout_s": -1}, "timeout_s = -1"),
        ({"scratch": {"size": ""}}, "scratch.size = ''"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_impossible_profile_is_refused_with_the_reason(stage: dict[str, Any], match: str, tmp_path: Path):
    path = _write(tmp_path / "own.yaml", {"stages": {"train_model": stage}})
    with pytest.raises(ConfigError, match=match) as caught:
        load_profile(path)
    assert "train_model" in str(caught.value)


def test_all_mistakes_are_told_at_once(tmp_path: Path):
    path = _write(
        tmp_path / "own.yaml",
        {
            "defaults": {"accelerator_count": 1},
            "stages": {"train_model": {"spot": True}, "export_model": {"cpu_request": "3", "cpu_limit": "2"}},
        },
    )
    with pytest.raises(ConfigError) as caught:
        load_profile(path)
    assert len(caught.value.problems) == 3


def test_a_mistake_of_the_defaults_is_told_once(tmp_path: Path):
    path = _write(
        tmp_path / "own.yaml",
        {"defaults": {"accelerator_count": 1}, "stages": {"train_model": {}, "export_model": {}}},
    )
    with pytest.raises(ConfigError) as caught:
        load_profile(path)
    assert caught.value.problems == [
        f"{path}: defaults: accelerator_count 1 without accelerator_type; name the resource, such as nvidia.com/gpu"
    ]


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("gpuu", "gpuu: no such profile; known: .*gpu-spot"),
        ("absent.yaml", "absent.yaml: no such file"),
    ],
    ids=["unknown name", "no such file"],
)
def test_an_unknown_profile_is_refused(name: str, match: str):
    with pytest.raises(ConfigError, match=match):
        load_profile(name)


@pytest.mark.parametrize(
    ("text", "match"),
    [("a: [", "not valid YAML"), ("- a", "expected keys such as"), ("stages: {train_model: 3}", "stages.train_model")],
    ids=["no YAML", "a list", "a stage that is a number"],
)
def test_a_file_that_is_no_profile_is_refused(text: str, match: str, tmp_path: Path):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(ConfigError, match=match):
        load_profile(tmp_path / "own.yaml")


def test_settings_of_a_stage_that_is_not_there_are_refused(tmp_path: Path):
    profile = load_profile(_write(tmp_path / "own.yaml", {"stages": {"trian_model": {"cpu_limit": 2}}}))
    with pytest.raises(ConfigError, match=r"stages\.trian_model: no such stage; known: export_model, train_model"):
        profile.check_stages(["train_model", "export_model"])


def test_shared_memory_that_exceeds_the_memory_is_refused_with_what_it_was_computed_from():
    parameters = {"training_batch_size": 256, "training_image_size_px": 1280, "training_loader_workers": 8}
    with pytest.raises(ConfigError, match=r"8 loader workers with batches of 256 images of 1280 px need .* 32Gi"):
        load_profile("gpu").stage("train_model", parameters)


@pytest.mark.parametrize(
    ("parameters", "has_accelerator", "expected_mib"),
    [
        ({}, False, 256),
        ({"training_loader_workers": 0}, True, 256),
        ({"training_loader_workers": 2, "training_batch_size": 8, "training_image_size_px": 640}, False, 256),
        ({"training_loader_workers": 4, "training_batch_size": 16, "training_image_size_px": 640}, False, 768),
        ({}, True, 1536),
        ({"training_batch_size": 32}, True, 3072),
    ],
    ids=["CPU starts no processes", "none asked for", "small", "four processes", "eight on a GPU", "twice the batch"],
)
def test_shared_memory_is_computed(parameters: dict[str, Any], has_accelerator: bool, expected_mib: int):
    size, _ = shared_memory_bytes(parameters, has_accelerator=has_accelerator)
    assert size == expected_mib << 20


@pytest.mark.parametrize(
    ("text", "expected"),
    [("512", 512), ("1Ki", 1024), ("1K", 1000), ("1.5Gi", 3 << 29), ("2T", 2 * 10**12)],
    ids=["bytes", "kibi", "kilo", "a fraction", "tera"],
)
def test_memory_is_read_as_kubernetes_reads_it(text: str, expected: int):
    assert parse_memory(text) == expected


def test_cpu_and_mebibytes():
    assert [parse_cpu(text) for text in ("2", "500m", "0.25")] == [2.0, 0.5, 0.25]
    assert format_mebibytes((1 << 20) + 1) == "2Mi"
