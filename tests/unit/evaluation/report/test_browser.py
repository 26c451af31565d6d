"""The page as a person sees it, in a headless browser."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from visionyard.data.dataset import Dataset
from visionyard.evaluation import build_report, evaluate
from visionyard.transforms import Classification, Detections

A, B, C = (2.0, 2.0, 22.0, 22.0), (30.0, 10.0, 60.0, 40.0), (5.0, 30.0, 15.0, 46.0)
# Class and file names that would run if they were ever taken for markup.
CAT, DOG = "cat</script><img src=x onerror=alert(1)>", "dog & co"
LEAK = {
    "group_overlap": 1,
    "identical_images": 2,
    "near_duplicate_pairs": 3,
    "is_near_duplicate_search_complete": True,
    "near_duplicate_items": 2,
    "held_out_items": 6,
    "leak_budget": 0.01,
    "is_over_budget": True,
    "is_leaky": True,
    "cluster_count": 1,
    "method": {"description": "By looking.", "min_score": 0.4},
    "examples": [
        {
            "kind": "near_duplicate",
            "score": 0.87,
            "first": {"key": "item-000", "split": "train", "group": "g", "source": "a.jpg", "timestamp_s": None},
            "second": {"key": "item-001", "split": "test", "group": "h", "source": "b.jpg", "timestamp_s": 1.5},
        }
    ],
}
COST = {
    "currency": "EUR",
    "stages": [
        {
            "stage": "train_model",
            "try_count": 2,
            "elapsed_s": 90.0,
            "cpu_s": 180.0,
            "accelerator_s": 90.0,
            "accelerator_type": "NVIDIA L4",
            "read_bytes": 5_000_000,
            "written_bytes": 0,
            "cost": 0.02,
        }
    ],
    "stored_bytes": 7_000_000,
    "stored_cost": 0.001,
    "metric": "map_50",
    "total": 0.021,
    "per_point": 0.00025,
}
CARDS = "document.querySelectorAll('#images .card').length"
KEYS = "[...document.querySelectorAll('#images .card')].map((card) => card.dataset.key)"
WriteJson = Callable[[Path, Any], Path]


@pytest.fixture(scope="module")
def detection_page(
    tmp_path_factory: pytest.TempPathFactory,
    write_dataset: Callable[..., Dataset],
    boxes: Callable[..., Detections],
    scripted: Any,
    write_json: WriteJson,
    training_values: Any,
    bundle_values: Any,
    parity_values: Any,
    benchmark_values: Any,
    verdict_values: Any,
) -> Path:
    folder = tmp_path_factory.mktemp("detection")
    rows = [{"split": "train", "class_ids": [0, 1], "boxes": [*A, *B], "source": "<b>bold.png"}] * 3
    rows += [{"split": "test", "class_ids": [0, 1], "boxes": [*A, *B], "group": "clip", "timestamp_s": 1.0}] * 40
    problem = {
        "code": "unknown_class",
        "file": "<i>a</i>.xml",
        "item": "object 1",
        "message": "<script>alert(2)</script>",
    }
    dataset = write_dataset(folder / "dataset", "detection", [CAT, DOG], rows, problems=[problem])
    right = [boxes((0, 0.5 + n / 100, *A), (1, 0.9, *B)) for n in range(30)]
    confused = [boxes((1, 0.4, *A), (1, 0.9, *B))] * 6
    missed = [boxes((0, 0.9, *A), (0, 0.3, *C))] * 4
    evaluate(
        scripted([CAT, DOG], right + confused + missed),
        dataset,
        folder / "evaluation",
        confidence_threshold=0.25,
        iou_threshold=0.5,
        lineage={"checkpoint_digest": "c" * 64},
        curves=[{"epoch": n, "train_loss": 2.0 / n, "map_50": n / 10, "learning_rate": 0.01} for n in (1, 2, 3)],
    )
    bundle = write_json(folder / "bundle" / "model.json", bundle_values)
    write_json(bundle / "parity.json", parity_values)
    return build_report(
        folder / "report.html",
        evaluation=folder / "evaluation",
        dataset=dataset.folder,
        training=write_json(folder / "training" / "training.json", training_values),
        bundle=bundle,
        benchmark=write_json(folder / "benchmark" / "benchmark.json", benchmark_values),
        verdict=write_json(folder / "verdict" / "verdict.json", verdict_values),
        cost=COST,
        title="run </title><script>alert(3)</script>",
    )


@pytest.fixture(scope="module")
def classification_page(
    tmp_path_factory: pytest.TempPathFactory,
    write_dataset: Callable[..., Dataset],
    says: Callable[..., Classification],
    scripted: Any,
) -> Path:
    """A page of the stage validate: no bundle, no benchmark; a split that leaks."""
    folder = tmp_path_factory.mktemp("classification")
    rows = [{"split": "test", "class_ids": [n % 2]} for n in range(6)]
    dataset = write_dataset(folder / "dataset", "classification", ["a", "b", "c"], rows, leak=LEAK)
    answers = [says(0.8, 0.1, 0.1), says(0.5, 0.3, 0.2)] * 3
    settings: Any = {"confidence_threshold": 0.25, "iou_threshold": 0.5, "lineage": {}, "curves": []}
    evaluate(scripted(["a", "b", "c"], answers), dataset, folder / "evaluation", **settings)
    return build_report(folder / "report.html", evaluation=folder / "evaluation", dataset=dataset.folder)


def test_opens_without_a_complaint_and_without_network(browser: Any, detection_page: Path) -> None:
    browser.open(detection_page.as_uri())
    browser.js("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert browser.js("document.querySelectorAll('main section').length") == 11
    assert browser.js("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert browser.complaints() == []
    assert set(browser.requests()) <= {"file", "data"}


def test_names_are_shown_as_they_are(browser: Any, detection_page: Path) -> None:
    browser.open(detection_page.as_uri())
    assert browser.js("document.title") == "run </title><script>alert(3)</script>"
    shown = browser.js("document.querySelector('main').textContent")
    assert CAT in shown and DOG in shown and "<b>bold.png" in shown and "<script>alert(2)</script>" in shown
    assert browser.js("document.querySelectorAll('main script, main b, main i:not([class]):not([style])').length") == 0


@pytest.mark.parametrize("width", [600, 1400])
def test_nothing_is_wider_than_the_page(
    browser: Any, detection_page: Path, classification_page: Path, width: int
) -> None:
    for page in (detection_page, classification_page):
        browser.open(page.as_uri(), width=width)
        browser.js("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert browser.js("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_filter_and_sort(browser: Any, detection_page: Path) -> None:
    browser.open(detection_page.as_uri())
    assert browser.js(CARDS) == 30
    browser.js("document.querySelector('.more button').click()")
    assert browser.js(CARDS) == 40
    browser.js("document.querySelector('[data-filter=wrong]').click()")
    assert browser.js(CARDS) == 10
    assert browser.js("location.hash") == "#filter=wrong"
    assert browser.js("document.querySelector('.shown').textContent") == "10 of 40 test images"
    browser.js("document.querySelector('[data-filter=right]').click()")
    choose = "((menu) => { menu.value = 'unsure'; menu.dispatchEvent(new Event('change')); })"
    browser.js(f"{choose}(document.querySelector('[name=sort]'))")
    # Of the images that are right, item-003 has the least confident boxes and item-032 the most.
    assert browser.js(KEYS) == [f"item-{n:03d}" for n in range(3, 33)]
    assert browser.complaints() == []


def test_the_address_restores_the_choice(browser: Any, detection_page: Path) -> None:
    browser.open(f"{detection_page.as_uri()}#filter=wrong&cell=1-2&sort=unsure")
    assert browser.js(CARDS) == 4
    assert browser.js("document.querySelector('[data-filter=wrong]').getAttribute('aria-pressed')") == "true"
    browser.open(f"{detection_page.as_uri()}#filter=nonsense&cell=9-9&sort=__proto__&class=bird")
    assert browser.js("document.querySelector('.shown').textContent") == "40 of 40 test images"
    assert browser.complaints() == []


def test_a_cell_of_the_confusion_matrix_shows_its_images(browser: Any, detection_page: Path) -> None:
    browser.open(detection_page.as_uri())
    cells = "[...document.querySelectorAll('.matrix tbody button')].map((one) => one.firstChild.textContent)"
    assert browser.js(cells) == ["34", "6", "0", "0", "36", "4", "4", "0", "\u2013"]
    browser.js("document.querySelector('[data-cell=\"0-1\"]').click()")
    assert browser.js(CARDS) == 6
    assert CAT in browser.js("document.querySelector('.shown').textContent")


def test_the_viewer_opens_steps_and_closes(browser: Any, detection_page: Path) -> None:
    browser.open(f"{detection_page.as_uri()}#filter=wrong&cell=0-1")
    browser.js("document.querySelector('#images .card').click()")
    assert browser.js("document.getElementById('viewer').open")
    assert "is cat" in browser.js("document.getElementById('viewer').textContent")
    assert browser.js("document.querySelectorAll('#viewer rect.truth, #viewer rect.found').length") == 4
    name = "document.querySelector('#viewer dd').textContent"
    first = browser.js(name)
    browser.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowRight", code="ArrowRight")
    browser.wait(f"{name} !== '{first}'")
    browser.call("Input.dispatchKeyEvent", type="keyDown", key="Escape", code="Escape", windowsVirtualKeyCode=27)
    browser.wait("!document.getElementById('viewer').open")


def test_charts_tell_values_under_the_pointer_and_by_keyboard(browser: Any, detection_page: Path) -> None:
    browser.open(detection_page.as_uri())
    browser.js("document.documentElement.style.scrollBehavior = 'auto'")
    browser.js("document.querySelector('#training .chart [role=img]').scrollIntoView({ block: 'center' })")
    box = browser.js("document.querySelector('#training .chart [role=img]').getBoundingClientRect().toJSON()")
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=box["right"] - 20, y=box["y"] + 50)
    tip = "document.querySelector('#training .tip')"
    browser.wait(f"!{tip}.hidden")
    assert browser.js(f"{tip}.textContent") == "Epoch 3mAP 50 0.3"
    browser.js("document.querySelector('#training .chart [role=img]').focus()")
    browser.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowLeft", code="ArrowLeft")
    browser.wait(f"{tip}.textContent === 'Epoch 2mAP 50 0.2'")


def test_each_format_stands_beside_what_it_was_held_to(browser: Any, detection_page: Path) -> None:
    browser.open(detection_page.as_uri())
    rows = "[...document.querySelector('#parity table').querySelectorAll('tbody tr')].map((row) => row.innerText)"
    exact, lossy = (row.split("\t") for row in browser.js(rows))
    assert (exact[0], exact[2], exact[-1]) == ("onnx", "1 of 2", "0.001")
    assert (lossy[0], lossy[2], lossy[-1]) == ("onnx-int8", "not judged", "0.01")


def test_the_verdict_is_told_with_its_reasons(browser: Any, detection_page: Path) -> None:
    browser.open(detection_page.as_uri())
    tiles = browser.js("document.querySelector('header').innerText")
    assert "rejected" in tiles and "mAP 50 0.820, the champion's 0.800, on images new to both" in tiles
    told = browser.js("document.getElementById('promotion').innerText")
    assert "The new model was not promoted." in told
    assert "class <b>dog</b> gets worse" in told
    assert "+0.020, -0.010 to +0.050 at 95\u00a0%" in told
    rows = "[...document.querySelectorAll('#promotion tbody tr')].map((row) => row.innerText.split('\\t'))"
    assert browser.js(rows) == [
        ["cat", "0.900", "0.950", "+0.010 to +0.090", "✓ allowed"],
        ["dog", "0.900", "0.700", "\u2013", "✗ worse than allowed"],
    ]


def test_the_cost_is_told_by_stage(browser: Any, detection_page: Path, classification_page: Path) -> None:
    browser.open(detection_page.as_uri())
    told = browser.js("document.getElementById('cost').innerText")
    assert "0.0210 EUR, which is 2.5e-4 EUR for each hundredth of mAP 50." in told
    assert "train model\t2\t90.0\t180.0\t90.0\tNVIDIA L4\t5.0 MB\t0.0 MB\t0.0200" in told
    assert "What the run left in the store, 7.0 MB: 0.0010 EUR." in told
    browser.open(classification_page.as_uri())
    assert browser.js("document.getElementById('cost') === null && document.querySelectorAll('nav a').length") == 10


def test_a_page_without_later_stages_says_so_and_a_leak_is_said_first(browser: Any, classification_page: Path) -> None:
    browser.open(classification_page.as_uri())
    assert browser.complaints() == []
    assert "do not trust" in browser.js("document.querySelector('header [role=alert]').textContent")
    assert "2 pairs of identical images" in browser.js("document.querySelector('header').textContent")
    assert "has not been exported yet" in browser.js("document.getElementById('parity').textContent")
    assert "has not run yet" in browser.js("document.getElementById('benchmark').textContent")
    assert "has not been judged yet" in browser.js("document.getElementById('promotion').textContent")
    assert "left no curves" in browser.js("document.getElementById('training').textContent")
    browser.js("document.querySelector('[data-filter=wrong]').click()")
    assert browser.js(KEYS) == ["item-001", "item-003", "item-005"]
    assert browser.js("document.querySelector('#images .verdict').textContent") == "✗ b → a 50\u00a0%"


def test_works_in_a_sandboxed_frame(browser: Any, detection_page: Path, tmp_path: Path) -> None:
    """As the Kubeflow UI shows it: origin null, no storage, 600 px; the frame tells what it sees by a message."""
    spy = """<script>addEventListener('load', () => {
      document.querySelector('[data-filter=wrong]').click();
      document.querySelector('nav a:last-child').click();
      const cards = document.querySelectorAll('#images .card').length, width = document.documentElement.scrollWidth;
      const tell = () => parent.postMessage({ origin, cards, width, hash: location.hash, y: scrollY }, '*');
      setTimeout(tell, 1200);
    })</script>"""
    page = detection_page.read_text(encoding="utf-8")
    # The page's own policy would refuse the spy's script, which is the point of the policy.
    page = page.replace("script-src 'sha256", "script-src 'unsafe-inline' 'x-sha256", 1) + spy
    frame = page.replace("&", "&amp;").replace('"', "&quot;")
    outer = tmp_path / "outer.html"
    outer.write_text(
        f"""<!doctype html><meta charset="utf-8">
        <iframe sandbox="allow-scripts" width="600" height="800" srcdoc="{frame}"></iframe>
        <script>addEventListener('message', (event) => {{ window.told = event.data; }})</script>""",
        encoding="utf-8",
    )
    browser.open(outer.as_uri())
    browser.wait("window.told")
    told = browser.js("window.told")
    assert (told["origin"], told["hash"], told["cards"]) == ("null", "", 10)
    assert told["width"] <= 600
    assert told["y"] > 1000
    assert [one for one in browser.complaints() if "x-sha256" not in str(one)] == []


def test_near_duplicates_over_the_budget_are_told_first_and_shown(browser: Any, classification_page: Path) -> None:
    browser.open(classification_page.as_uri())
    alarm = browser.js("document.querySelector('#summary .alarm, .alarm').textContent")
    assert "2 of 6 images of val and test with a near-duplicate in another split" in alarm
    assert "data.allow_leak" in alarm
    browser.js("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert browser.js("document.querySelectorAll('.pairs li img').length") == 2
    assert browser.js("[...document.querySelectorAll('.pairs img')].every((image) => image.naturalWidth > 0)")
    assert "show the same: 87" in browser.js("document.querySelector('.pairs').textContent")
