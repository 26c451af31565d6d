"""A server with the model of a table beside one of images: rows as JSON, as Arrow, as tensors, on the page."""

import asyncio
import io
import json
import struct
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc
from rich.console import Console

from tests.fixtures.tiny_tables import COLUMNS
from visionyard.cli.predict import Server
from visionyard.cli.predict_rows import are_rows, predict_rows_command
from visionyard.client import AsyncClient, ClassifiedRow, Client
from visionyard.client import rows as client_rows
from visionyard.data.tables import arrow_rows
from visionyard.data.tables.arrow_messages import is_compressed
from visionyard.errors import ConfigError, DataError, RequestError, VisionyardError
from visionyard.inference import Predictor
from visionyard.serving.kserve_sdk import GRPCInferenceServiceStub, pb
from visionyard.serving.rows import read_columns
from visionyard.transforms import Prediction, TablePreprocessing
from visionyard.transforms.rows import BooleanColumn

ARROW = "application/vnd.apache.arrow.stream"
ROWS: list[dict[str, Any]] = [
    {"x": 2.5, "count": 3, "colour": "red", "is_new": True},
    {"x": -2.5, "count": 3, "colour": "blue", "is_new": False},
    {"x": None, "count": None, "colour": None, "is_new": None},
    {"x": "1e3", "count": "7", "colour": "never seen", "is_new": "no"},
]
MAX_ROWS = 50


@pytest.fixture(scope="module")
def server(start_server: Callable[..., Any], table_bundle: Path, bundle_paths: dict[str, Path]) -> Any:
    """Return a server with the table's model and the classifier of images."""
    named = ["--name", "rows", "--name", "kinds"]
    return start_server(str(table_bundle), str(bundle_paths["kinds"]), *named, "--set", f"limits.max_rows={MAX_ROWS}")


@pytest.fixture(scope="module")
def expected(table_bundle: Path) -> Iterator[Callable[[list[dict[str, Any]]], list[Prediction]]]:
    """Return what answers rows without any server."""
    with Predictor.from_bundle(table_bundle) as predictor:
        yield predictor.predict


def assert_same(found: list[dict[str, Any]], expected: list[Prediction]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one["class_id"] == other.class_id
        for each in one["top"]:
            assert each["confidence"] == pytest.approx(float(other.probabilities[each["class_id"]]), abs=1e-4)


def stream(rows: list[dict[str, Any]], schema: Any = None, **options: Any) -> bytes:
    """Return rows as an Arrow IPC stream."""
    table = pa.Table.from_pylist(rows, schema=schema)
    sink = io.BytesIO()
    with ipc.new_stream(sink, table.schema, options=ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue()


TYPED = ROWS[:3]


@pytest.mark.parametrize("form", ["rows", "list"])
def test_rows_as_json(form: str, http: httpx.Client, expected: Callable[..., Any]) -> None:
    body: Any = {"rows": ROWS} if form == "rows" else ROWS
    answer = http.post("/predict", params={"model": "rows"}, json=body)
    assert answer.status_code == 200, answer.text
    values = answer.json()
    assert values["model"] == "rows"
    assert_same(values["predictions"], expected(ROWS))
    assert values["predictions"][0]["class"] == "high"


def test_parameters_hold(http: httpx.Client) -> None:
    answer = http.post("/predict", json={"rows": ROWS, "parameters": {"model": "rows", "top_k": 1}})
    assert [len(one["top"]) for one in answer.json()["predictions"]] == [1] * len(ROWS)


def test_v1_instances_are_rows(http: httpx.Client, expected: Callable[..., Any]) -> None:
    answer = http.post("/v1/models/rows:predict", json={"instances": ROWS})
    assert answer.status_code == 200, answer.text
    assert_same(answer.json()["predictions"], expected(ROWS))


def test_rows_as_arrow_answered_as_json_or_arrow(http: httpx.Client, expected: Callable[..., Any]) -> None:
    headers = {"content-type": ARROW}
    answer = http.post("/predict?model=rows", content=stream(TYPED), headers=headers)
    assert answer.status_code == 200, answer.text
    assert_same(answer.json()["predictions"], expected(TYPED))

    answer = http.post("/predict?model=rows", content=stream(TYPED), headers={**headers, "accept": ARROW})
    assert answer.headers["content-type"] == ARROW
    table = ipc.open_stream(answer.content).read_all()
    assert table.column_names == ["class", "class_id", "confidence", "probabilities"]
    for one, other in zip(table.to_pylist(), expected(TYPED), strict=True):
        assert one["class_id"] == other.class_id
        assert one["probabilities"] == pytest.approx(other.probabilities.tolist(), abs=1e-5)
        assert one["confidence"] == pytest.approx(max(one["probabilities"]))

    answer = http.post("/predict?model=rows", json=TYPED, headers={"accept": ARROW})
    assert (
        ipc.open_stream(answer.content).read_all().column("class_id").to_pylist()
        == table.column("class_id").to_pylist()
    )


def test_arrow_may_hold_dictionaries_whole_numbers_and_several_batches(
    http: httpx.Client, expected: Callable[..., Any]
) -> None:
    fields = [("x", pa.float32()), ("count", pa.int16()), ("colour", pa.dictionary(pa.int8(), pa.string()))]
    schema = pa.schema([*fields, ("is_new", pa.bool_())])
    batches = pa.Table.from_pylist(TYPED * 3, schema=schema).to_batches(max_chunksize=2)
    sink = io.BytesIO()
    with ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    answer = http.post("/predict?model=rows", content=sink.getvalue(), headers={"content-type": ARROW})
    assert answer.status_code == 200, answer.text
    assert_same(answer.json()["predictions"], expected(TYPED * 3))


def _tensors(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kinds = {"x": "FP64", "count": "FP64", "colour": "BYTES", "is_new": "BOOL"}
    return [
        {"name": name, "datatype": kinds[name], "shape": [len(rows)], "data": [row[name] for row in rows]}
        for name in reversed(COLUMNS)
    ]


def test_v2_takes_a_tensor_for_each_column(http: httpx.Client, expected: Callable[..., Any]) -> None:
    metadata = http.get("/v2/models/rows").json()
    assert metadata["inputs"] == [
        {"name": "x", "datatype": "FP64", "shape": [-1]},
        {"name": "count", "datatype": "FP64", "shape": [-1]},
        {"name": "colour", "datatype": "BYTES", "shape": [-1]},
        {"name": "is_new", "datatype": "BOOL", "shape": [-1]},
    ]
    assert [each["name"] for each in metadata["outputs"]] == ["predictions", "probabilities"]
    answer = http.post("/v2/models/rows/infer", json={"inputs": _tensors(TYPED)})
    assert answer.status_code == 200, answer.text
    outputs = {output["name"]: output for output in answer.json()["outputs"]}
    assert_same([json.loads(text) for text in outputs["predictions"]["data"]], expected(TYPED))
    assert outputs["probabilities"]["shape"] == [3, 2]


def test_grpc_takes_them_too(server: Any, expected: Callable[..., Any]) -> None:
    rows = TYPED[:2]
    texts = [row["colour"].encode() for row in rows]
    raw = {
        "x": struct.pack("<2d", *(row["x"] for row in rows)),
        "count": struct.pack("<2q", *(row["count"] for row in rows)),
        "colour": b"".join(len(text).to_bytes(4, "little") + text for text in texts),
        "is_new": bytes(row["is_new"] for row in rows),
    }
    kinds = {"x": "FP64", "count": "INT64", "colour": "BYTES", "is_new": "BOOL"}
    inputs = [pb.ModelInferRequest.InferInputTensor(name=name, shape=[2], datatype=kinds[name]) for name in raw]
    request = pb.ModelInferRequest(model_name="rows", inputs=inputs, raw_input_contents=[raw[name] for name in kinds])
    with grpc.insecure_channel(server.grpc) as channel:
        answer = GRPCInferenceServiceStub(channel).ModelInfer(request)
    place = [output.name for output in answer.outputs].index("probabilities")
    found = struct.unpack("<4f", answer.raw_output_contents[place])
    wanted = [value for one in expected(rows) for value in one.probabilities.tolist()]
    assert found == pytest.approx(wanted, abs=1e-5)


GOOD = ROWS[0]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"rows": []}, 400, "at least one row"),
        ({"rows": [GOOD, 1]}, 400, "rows[1]: expected an object of columns and values, got int"),
        ({"rows": [GOOD], "extra": 1}, 400, "unknown keys extra"),
        ([{**GOOD, "age": 3}], 400, "row 0: there is no column 'age'; the columns are x, count, colour, is_new"),
        ([GOOD, {"x": 1}], 400, "row 1: the column 'count' is missing; give null"),
        ([{**GOOD, "x": "many"}], 400, "row 0: column 'x': expected a number, got 'many'"),
        ([{**GOOD, "x": [1, 2]}], 400, "column 'x': expected a number, got a list"),
        ([{**GOOD, "is_new": "perhaps"}], 400, "column 'is_new': expected true or false, got 'perhaps'"),
        ([GOOD] * (MAX_ROWS + 1), 413, f"the request holds {MAX_ROWS + 1} rows; at most {MAX_ROWS} are taken"),
        ({"images": [{"b64": "aaaa"}]}, 400, "model rows looks at rows of a table, not at images"),
    ],
    ids=["none", "no object", "key", "unknown", "missing", "text", "list", "flag", "too many", "images"],
)
def test_rows_that_do_not_fit_are_refused(body: Any, status: int, words: str, http: httpx.Client) -> None:
    answer = http.post("/predict?model=rows", json=body)
    assert (answer.status_code, words in answer.json()["error"]) == (status, True), answer.text


def test_each_model_takes_its_own(http: httpx.Client, images: dict[str, bytes]) -> None:
    for path in ("/predict", "/predict/image"):
        answer = http.post(f"{path}?model=rows", content=images["png"])
        assert (answer.status_code, "looks at rows" in answer.json()["error"]) == (400, True)
    answer = http.post("/predict/image?model=rows", json=ROWS[:1])
    assert (answer.status_code, "nothing can be drawn" in answer.json()["error"]) == (400, True)
    answer = http.post("/predict?model=kinds", json=ROWS)
    assert (answer.status_code, "looks at images, not at rows" in answer.json()["error"]) == (400, True)
    assert http.post("/predict?model=kinds", content=images["png"]).status_code == 200
    takes = {model["name"]: model["takes"] for model in http.get("/models").json()["models"]}
    assert takes == {"rows": "rows", "kinds": "images"}
    assert "drift is not watched" in http.get("/drift?model=rows").json()["error"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda inputs: inputs[:-1], "column 'x' is missing"),
        (lambda inputs: [*inputs, {**inputs[0], "name": "age"}], "'age' is no column"),
        (lambda inputs: [*inputs, inputs[0]], "given twice"),
        (lambda inputs: [{**inputs[0], "shape": [2], "data": [True, False]}, *inputs[1:]], "holds 2 values, 'x' 3"),
        (lambda inputs: [{**inputs[0], "shape": [1, 3]}, *inputs[1:]], "expected [N] or [N, 1]"),
        (lambda inputs: [{**inputs[0], "data": [True]}, *inputs[1:]], "has 3 elements, got 1"),
        (lambda inputs: [{**inputs[0], "data": ["a", "b", "c"]}, *inputs[1:]], "expected true or false, got 'a'"),
    ],
    ids=["missing", "unknown", "twice", "length", "shape", "count", "type"],
)
def test_tensors_that_do_not_fit_are_refused(change: Callable[..., Any], words: str, http: httpx.Client) -> None:
    answer = http.post("/v2/models/rows/infer", json={"inputs": change(_tensors(TYPED))})
    assert (answer.status_code, words in answer.json()["error"]) == (400, True), answer.text


def test_of_a_table_of_thousands_of_columns_a_message_lists_the_first() -> None:
    spec = TablePreprocessing(columns=[BooleanColumn(name=f"gene {number}") for number in range(3000)])
    with pytest.raises(RequestError, match="expected a tensor each for gene 0, gene 1") as told:
        read_columns([], spec, 10)
    assert len(str(told.value)) < 1000


def _post_arrow(http: httpx.Client, body: bytes) -> tuple[int, str]:
    answer = http.post("/predict?model=rows", content=body, headers={"content-type": ARROW})
    return answer.status_code, answer.json()["error"]


WHOLE = stream(TYPED)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no Arrow IPC stream"),
        (b"{}", "no Arrow IPC stream"),
        (b"\xff\xff\xff\xff\x10\x00\x00\x00" + b"\xff" * 16, "no Arrow IPC stream"),
        (WHOLE[: len(WHOLE) // 2], "no Arrow IPC stream"),
        (stream(TYPED, compression="zstd"), "is compressed, which is not taken"),
        (
            stream([{**GOOD, "x": [1.0]}]),
            "column 'x' of the Arrow stream: expected numbers, texts or booleans, got list",
        ),
        (stream(TYPED[:0], pa.schema([(name, pa.string()) for name in COLUMNS])), "holds no row"),
        (stream([{"x": 1.0}]), "row 0: the column 'count' is missing"),
    ],
    ids=["empty", "json", "metadata", "cut", "compressed", "list", "no row", "column"],
)
def test_arrow_that_does_not_fit_is_refused(body: bytes, words: str, http: httpx.Client) -> None:
    status, error = _post_arrow(http, body)
    assert (status, words in error) == (400, True), error


def test_too_many_rows_of_arrow_are_refused(http: httpx.Client) -> None:
    status, error = _post_arrow(http, stream([GOOD] * (MAX_ROWS * 3)))
    assert (status, error) == (413, f"the request holds {MAX_ROWS + 1} rows; at most {MAX_ROWS} are taken")


def test_any_byte_of_a_stream_may_be_wrong(http: httpx.Client) -> None:
    for place in range(0, len(WHOLE), 7):
        body = bytearray(WHOLE)
        body[place] ^= 0xFF
        answer = http.post("/predict?model=rows", content=bytes(body), headers={"content-type": ARROW})
        assert answer.status_code in (200, 400, 413), answer.text


def test_compression_is_seen_in_dictionaries_too() -> None:
    schema = pa.schema([("colour", pa.dictionary(pa.int8(), pa.string()))])
    rows = [{"colour": name * 50} for name in "abc"]
    assert not is_compressed(stream(rows, schema))
    for codec in ("lz4", "zstd"):
        assert is_compressed(stream(rows, schema, compression=codec))


def test_a_long_text_of_a_dictionary_is_refused() -> None:
    schema = pa.schema([("colour", pa.dictionary(pa.int8(), pa.string()))])
    with pytest.raises(DataError, match="'colour': a category of 20000 bytes; at most 10000"):
        arrow_rows.rows_of_stream(stream([{"colour": "a" * 20_000}], schema), 10)


def test_without_arrow_the_extra_is_named(
    start_server: Callable[..., Any], table_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = tmp_path / "sitecustomize.py"
    hidden.write_text(
        "import sys\nfrom importlib.abc import MetaPathFinder\n"
        "class Hidden(MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'pyarrow':\n            raise ModuleNotFoundError(name)\n"
        "import importlib.util\n_find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'pyarrow' else _find(name, *rest)\n"
        "sys.meta_path.insert(0, Hidden())\n"
    )
    import os

    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    running = start_server(str(table_bundle))
    with httpx.Client(base_url=running.url, timeout=20) as client:
        assert client.post("/predict", json=TYPED).status_code == 200
        for headers, body in (({"content-type": ARROW}, WHOLE), ({"accept": ARROW}, json.dumps(TYPED).encode())):
            headers = {"content-type": "application/json", **headers}
            answer = client.post("/predict", content=body, headers=headers)
            assert (answer.status_code, "visionyard[serve,arrow]" in answer.json()["error"]) == (415, True), answer.text


def test_the_page_takes_a_row(browser: Any, server: Any) -> None:
    browser.open(f"{server.url}/rows")
    browser.wait("document.getElementById('facts').textContent !== ''")
    assert browser.js("document.getElementById('name').textContent") == "rows"
    assert (
        browser.js("[...document.querySelectorAll('#columns label')].map((one) => one.firstChild.textContent)")
        == COLUMNS
    )
    browser.js(
        "{const [x, count, colour] = document.querySelectorAll('#columns input, #columns select');"
        "x.value = '2.5'; count.value = '3'; colour.value = 'red'; document.getElementById('ask').click();}"
    )
    browser.wait("document.getElementById('count').textContent.startsWith('high, ')")
    browser.js("{document.querySelector('#columns input').value = 'many'; document.getElementById('ask').click();}")
    browser.wait("document.getElementById('error').textContent.includes(\"column 'x': expected a number, got 'many'\")")
    browser.js(
        "document.getElementById('json').value = JSON.stringify([{}]); document.getElementById('ask-json').click();"
    )
    browser.wait("document.getElementById('error').textContent.includes(\"the column 'x' is missing\")")
    assert {"http", "data"} >= set(browser.requests())
    browser.open(f"{server.url}/")
    browser.wait("document.getElementById('facts').textContent !== ''")
    assert browser.js("document.getElementById('name').textContent") == "kinds", (
        "the page of images shows models of them"
    )


def _asked(url: str, rows: list[dict[str, Any]], **options: Any) -> list[ClassifiedRow]:
    with Client(url, model="rows") as client:
        found = client.predict_rows(rows, **options)

    async def ask() -> list[ClassifiedRow]:
        async with AsyncClient(url, model="rows") as client:
            return await client.predict_rows(rows, **options)

    assert asyncio.run(ask()) == found
    return found


@pytest.fixture(params=["rest", "grpc"])
def address(request: pytest.FixtureRequest, server: Any) -> str:
    return server.url if request.param == "rest" else f"grpc://{server.grpc}"


def test_the_clients_answers_are_the_bundles_own(
    address: str, expected: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_rows, "MAX_ROWS", 2)  # several requests
    numpy_row = {"x": np.float32(-2.5), "count": np.int64(3), "colour": np.str_("blue"), "is_new": np.bool_(False)}
    rows = [*ROWS, numpy_row, {**ROWS[0], "x": float("nan"), "count": 3.0}]
    found = _asked(address, rows)
    plain = [*ROWS, ROWS[1], {**ROWS[0], "x": None}]
    assert_same([one.to_json() for one in found], expected(plain))
    assert (found[0].class_name, found[1].class_name) == ("high", "low")
    assert found[0].class_id == expected(plain)[0].class_id
    assert [len(one.top) for one in _asked(address, ROWS, top_k=1)] == [1] * len(ROWS)
    assert _asked(address, []) == []


def test_the_client_names_the_row_that_is_wrong(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_rows, "MAX_ROWS", 2)
    with Client(address, model="rows") as client:
        with pytest.raises(RequestError, match=r"row 1: column 'x': expected a number, got 'q' \(counted from row 2\)"):
            client.predict_rows([ROWS[0], ROWS[1], ROWS[2], {**ROWS[0], "x": "q"}])
        with pytest.raises(ConfigError, match=r"row 1, column 'x': expected a text, a number, .* got datetime"):
            client.predict_rows([ROWS[0], {**ROWS[0], "x": datetime(2026, 1, 1)}])
        with pytest.raises(ConfigError, match="row 0: expected a mapping of column names to values, got "):
            client.predict_rows([[1, 2]])  # type: ignore[list-item]
        with pytest.raises(VisionyardError, match=r"row 1: .*x"):
            client.predict_rows([ROWS[0], {"count": 1, "colour": "red", "is_new": True}])


@pytest.mark.parametrize(
    ("model", "match"),
    [("kinds", "a model of images, and new.csv holds rows"), ("other", "other"), ("", "name one of")],
    ids=["of images", "unknown", "not named"],
)
def test_files_of_rows_are_refused_for_other_models(model: str, match: str, address: str, tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text("x,count,colour,is_new\n1,1,red,no\n")
    if not model and address.startswith("grpc"):
        match = "model"  # the protocol itself wants a name
    with pytest.raises(VisionyardError, match=match):
        _predict_file(address, model, path)


def test_files_of_rows_are_predicted_by_a_server(
    address: str, expected: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new.csv"
    lines = ["colour,x,who,count,is_new", "red,3.5,ann,1,yes", "green,-3,bob,NA,no", "green,many,eve,1,no", ",,,,"]
    path.write_text("\n".join(lines) + "\n")
    _predict_file(address, "rows", path)
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["row"] for record in records] == [1, 2, 3, 4]
    assert records[2]["error"] == "column 'x': expected a number, got 'many'"
    rows = [
        {"colour": "red", "x": 3.5, "count": 1, "is_new": True},
        {"colour": "green", "x": -3, "count": None, "is_new": False},
        dict.fromkeys(COLUMNS),
    ]
    assert_same([record for record in records if "error" not in record], expected(rows))


def test_a_folder_is_of_rows_for_a_server_where_it_holds_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "new/deep"
    folder.mkdir(parents=True)
    assert not are_rows("", [str(tmp_path)])
    (folder / "a.CSV").write_text("x\n1\n")
    assert are_rows("", [str(tmp_path), "more.parquet"])
    (folder / "b.jpg").write_bytes(b"")
    assert not are_rows("", [str(tmp_path)])
    assert not are_rows("", [str(tmp_path / "none")])


def _predict_file(address: str, model: str, path: Path) -> None:
    source = Server(address, model)
    predict_rows_command(source, [path], is_json=True, model_format="", console=Console(file=io.StringIO()))


def test_a_server_of_tables_alone_speaks_of_rows(start_server: Callable[..., Any], table_bundle: Path) -> None:
    with httpx.Client(base_url=start_server(str(table_bundle)).url) as http:
        assert http.get("/").text == http.get("/rows").text
        for body in (5, "text", {"images": [{"b64": ""}]}, {}):
            answer = http.post("/predict", json=body)
            assert answer.status_code == 400
            assert 'expected JSON such as {"rows": [{"column": value, ...}, ...]} with' in answer.json()["error"]
        assert http.post("/predict", json=ROWS).status_code == 200
