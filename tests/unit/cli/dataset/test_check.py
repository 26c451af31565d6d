import json
import shutil
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from visionyard.errors import ArtifactError, DataError


def test_a_sound_version_passes(dataset_command: Any, tiny_dataset: Any):
    done = dataset_command("check", tiny_dataset("detection"))
    assert done.exit_code == 0
    assert "15 of 15 images can be used, 0 problems" in done.stdout


def test_what_was_dealt_with_when_a_version_was_made_is_no_problem_of_it(dataset_command: Any, tiny_dataset: Any):
    folder = tiny_dataset("detection")
    problem = {"code": "box_without_area", "file": "a.xml", "item": "object 1", "message": "has no area; dropped"}
    (folder / "problems.jsonl").write_text(json.dumps(problem) + "\n")
    assert dataset_command("check", folder, "--strict").exit_code == 0
    assert "box_without_area" in dataset_command("inspect", folder).stdout


def test_an_altered_image_is_named(dataset_command: Any, tiny_dataset: Any):
    folder = tiny_dataset("detection")
    (shard,) = folder.glob("shards/val-*.tar")
    data = bytearray(shard.read_bytes())
    data[600] ^= 255
    shard.write_bytes(data)
    done = dataset_command("check", folder, "--json")
    values = json.loads(done.stdout)
    assert done.exit_code == 1
    assert (values["usable_count"], values["serious_count"]) == (14, 1)
    assert values["problems"][0]["code"] == "image_altered"
    assert values["problems"][0]["file"] == "val000.png"
    shard.unlink()
    values = json.loads(dataset_command("check", folder, "--json").stdout)
    assert values["problem_counts"] == {"unreadable_image": 3}
    assert "the shard is missing" in values["problems"][0]["message"]


def test_raw_input_fails_for_what_was_lost_and_not_for_advice(dataset_command: Any, voc_folder: Path):
    done = dataset_command("check", voc_folder)
    assert done.exit_code == 1
    assert "2 of 3 images can be used, 1 problem" in done.stdout
    assert "box_without_area" in done.stdout and "class_with_few_groups" in done.stdout
    for name in ("c.png", "c.xml"):
        (voc_folder / name).unlink()
    assert dataset_command("check", voc_folder).exit_code == 0
    assert dataset_command("check", voc_folder, "--strict").exit_code == 1


def test_what_cannot_be_checked_is_refused(dataset_command: Any, tmp_path: Path, tiny_dataset: Any):
    with pytest.raises(DataError, match="no such file or folder"):
        dataset_command("check", tmp_path / "nowhere")
    folder = tiny_dataset("detection")
    (folder / "index.parquet").unlink()
    with pytest.raises(ArtifactError, match=r"index\.parquet: the index is missing"):
        dataset_command("check", folder)


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_a_secret_in_an_address_is_not_told(dataset_command: Any, voc_folder: Path, tmp_path: Path):
    archive = shutil.make_archive(str(tmp_path / "data"), "zip", voc_folder)
    handler = partial(_Silent, directory=str(Path(archive).parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        done = dataset_command("check", f"http://user:hunter2@127.0.0.1:{server.server_port}/data.zip?token=hunter3")
        server.shutdown()
    assert "2 of 3 images" in done.output
    assert "hunter" not in done.output
