"""The page at `/` as a person uses it, in a headless browser, against a real server."""

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from visionyard.geometry import Mask, iou_matrix

BOXES = "document.querySelectorAll('#drawing rect.box').length"
ROWS = "document.querySelectorAll('#found tbody tr').length"
STATUS = "document.getElementById('status').textContent"
ERROR = "document.getElementById('error').textContent"


def _png(width: int = 96, height: int = 80) -> bytes:
    image = np.full((height, width, 3), 120, np.uint8)
    image[20:36, 10:26] = (220, 40, 30)
    image[40:56, 60:76] = (30, 40, 220)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def _drop(browser: Any, data: bytes, name: str = "a.png") -> None:
    text = base64.b64encode(data).decode()
    browser.js(
        f"{{const bytes = Uint8Array.from(atob('{text}'), (one) => one.charCodeAt(0));"
        f"const files = new DataTransfer(); files.items.add(new File([bytes], '{name}', {{type: 'image/png'}}));"
        "window.dispatchEvent(new DragEvent('drop', {dataTransfer: files, cancelable: true}));}"
    )


def _press(browser: Any, key: str, code: int) -> None:
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)


def _open(browser: Any, url: str, model: str, width: int = 1400) -> None:
    browser.open(f"{url}/", width=width)
    browser.wait("document.getElementById('facts').textContent !== ''")
    browser.js(
        f"{{const menu = document.getElementById('model'); menu.value = '{model}';"
        "menu.dispatchEvent(new Event('change'));}"
    )
    browser.wait(f"document.getElementById('name').textContent === '{model}'")


@pytest.mark.parametrize("width", [600, 1400])
def test_boxes_are_drawn_where_the_server_finds_them(browser: Any, server: Any, width: int) -> None:
    _open(browser, server.url, "boxes", width)
    _drop(browser, _png())
    browser.wait(f"{STATUS}.includes('answered in')")

    answer = httpx.post(f"{server.url}/predict?model=boxes", content=_png(), headers={"content-type": "image/png"})
    found = answer.json()["predictions"][0]["boxes"]
    assert len(found) >= 2
    assert browser.js(BOXES) == browser.js(ROWS) == len(found)
    drawn = browser.js(
        "[...document.querySelectorAll('#drawing rect.box')].map((one) =>"
        " ['x', 'y', 'width', 'height'].map((key) => Number(one.getAttribute(key))))"
    )
    expected = [[left, top, right - left, bottom - top] for left, top, right, bottom in (box["xyxy"] for box in found)]
    np.testing.assert_allclose(sorted(drawn), sorted(expected), atol=0.011)
    assert browser.js("document.getElementById('drawing').getAttribute('viewBox')") == "0 0 96 80"
    assert browser.js("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert browser.complaints() == []
    assert all(url.startswith((f"{server.url}/", "blob:", "data:")) for url in browser.urls())


@pytest.fixture
def proxy(server: Any) -> Iterator[str]:
    """Return the address of the server behind a proxy that puts `/yard/models` before its paths."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self.path.startswith("/yard/models"):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            place = self.path.removeprefix("/yard/models") or "/"
            kind = {"content-type": self.headers.get("Content-Type", "")} if body else {}
            answer = httpx.request(self.command, f"{server.url}{place}", content=body, headers=kind)
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers["content-type"])
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}/yard/models"
        listening.shutdown()


@pytest.mark.parametrize("ending", ["", "/"], ids=["no_slash", "slash"])
def test_it_works_below_a_path(browser: Any, proxy: str, ending: str) -> None:
    browser.open(f"{proxy}{ending}")
    browser.wait("document.getElementById('facts').textContent !== ''")
    _drop(browser, _png())
    browser.wait(f"{STATUS}.includes('answered in')")
    assert browser.js(BOXES) >= 2
    assert browser.complaints() == []


def test_the_slider_hides_boxes_without_asking_again(browser: Any, server: Any) -> None:
    _open(browser, server.url, "boxes")
    _drop(browser, _png())
    browser.wait(f"{STATUS}.includes('answered in')")
    asked = sum("/predict" in url for url in browser.urls())
    browser.js(
        "{const slider = document.getElementById('threshold'); slider.value = '1';"
        "slider.dispatchEvent(new Event('input'));}"
    )
    assert browser.js(BOXES) == browser.js(ROWS) == 0
    assert browser.js("document.getElementById('count').textContent").startswith("No objects, ")
    assert sum("/predict" in url for url in browser.urls()) == asked


def test_a_class_is_shown_with_its_probabilities(browser: Any, server: Any) -> None:
    _open(browser, server.url, "kinds", width=600)
    _drop(browser, _png())
    browser.wait(f"{STATUS}.includes('answered in')")
    answer = httpx.post(f"{server.url}/predict?model=kinds", content=_png(), headers={"content-type": "image/png"})
    expected = answer.json()["predictions"][0]
    assert browser.js("document.getElementById('count').textContent").startswith(f"{expected['class']}, ")
    assert browser.js(ROWS) == len(expected["top"])
    assert browser.js("document.getElementById('controls').hidden")
    assert browser.complaints() == []


def test_masks_are_read_and_drawn(browser: Any, server: Any) -> None:
    rng = np.random.default_rng(2)
    _open(browser, server.url, "boxes")
    for density in (0.1, 0.5, 0.98):
        pixels = rng.random((61, 47)) < density
        edges = np.flatnonzero(np.diff(pixels.ravel(order="F"), prepend=False, append=False))
        text = json.dumps(Mask.from_array(pixels).to_json())
        runs = browser.js(f"runsOf({text}.counts)")
        assert np.cumsum(runs)[:-1].tolist() == edges[edges < pixels.size].tolist()
        shown = browser.js(
            f"(async () => {{ const drawn = maskPicture({text}, [5, 7, 40.5, 50], {{hue: 0, lightness: 0.5}});"
            "const image = new Image(); image.src = drawn.getAttribute('href'); await image.decode();"
            "const canvas = new OffscreenCanvas(image.width, image.height); const context = canvas.getContext('2d');"
            "context.drawImage(image, 0, 0);"
            "const data = context.getImageData(0, 0, image.width, image.height).data;"
            "return [image.width, image.height, data.filter((_, place) => place % 4 === 3).join(',')]; })()"
        )
        width, height, alpha = shown
        found = np.array([int(one) for one in alpha.split(",")]).reshape(height, width) > 0
        np.testing.assert_array_equal(found, pixels[7:50, 5:41])


def test_a_broken_image_is_told_in_words(browser: Any, server: Any) -> None:
    _open(browser, server.url, "boxes")
    _drop(browser, b"no image at all")
    browser.wait(f"{ERROR} !== ''")
    assert "not an image" in browser.js(ERROR)
    assert browser.js("document.getElementById('error').getAttribute('role')") == "alert"
    browser.wait("document.getElementById('frame').hidden && !document.getElementById('empty').hidden")
    _drop(browser, _png())
    browser.wait(f"{STATUS}.includes('answered in')")
    assert browser.js("document.getElementById('error').hidden && !document.getElementById('frame').hidden")


def _set_offline(browser: Any, is_offline: bool) -> None:
    unbounded = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.call("Network.emulateNetworkConditions", offline=is_offline, **unbounded)


def test_a_server_that_goes_away_is_told_in_words(browser: Any, server: Any) -> None:
    _open(browser, server.url, "boxes")
    _set_offline(browser, True)
    try:
        _drop(browser, _png())
        browser.wait(f"{ERROR}.includes('cannot be reached')")
        assert browser.js(BOXES) == browser.js(ROWS) == 0
        assert browser.js("$('busy').hidden && !$('frame').hidden")
    finally:
        _set_offline(browser, False)
    _drop(browser, _png())
    browser.wait(f"{STATUS}.includes('answered in')")
    assert browser.js("$('error').hidden")
    assert browser.js(BOXES) == browser.js(ROWS) >= 2


def _show(browser: Any, width: int, height: int, boxes: list[list[float]]) -> None:
    """Show boxes on a picture of a size, the first the surest, as if the server had answered with them."""
    answered = [
        {"class": f"thing {number % 3}", "class_id": number % 3, "confidence": 0.99 - number / 1000, "xyxy": xyxy}
        for number, xyxy in enumerate(boxes)
    ]
    _drop(browser, _png(width, height))
    browser.wait(f"{STATUS}.includes('answered in') && document.getElementById('picture').naturalWidth === {width}")
    answer = {"width": width, "height": height, "boxes": answered}
    browser.js(f"state.result = {json.dumps(answer)}; show(); revealSurest()")


@pytest.mark.parametrize(("width", "height"), [(3000, 100), (100, 3000)], ids=["wide", "tall"])
def test_a_long_picture_is_scrolled_to_what_was_found(browser: Any, server: Any, width: int, height: int) -> None:
    _open(browser, server.url, "boxes", width=390)
    middle_x, middle_y = width * 0.6, height * 0.6
    _show(browser, width, height, [[middle_x - 20, middle_y - 20, middle_x + 20, middle_y + 20]])

    frame, stage, box = (
        browser.js(f"(({{ x, y, width, height }}) => [x, y, width, height])({one}.getBoundingClientRect())")
        for one in ("$('frame')", "$('stage')", "document.querySelector('#drawing rect.box')")
    )
    assert min(frame[2:]) > 70
    assert stage[0] <= box[0] and box[0] + box[2] <= stage[0] + stage[2]
    assert stage[1] <= box[1] and box[1] + box[3] <= stage[1] + stage[3]
    assert stage[3] < 900
    assert browser.js("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_names_of_many_objects_leave_each_other_room(browser: Any, server: Any) -> None:
    rng = np.random.default_rng(8)
    corners = rng.uniform(0, [600, 440], (300, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(10, 40, (300, 2))], axis=1).round(2)
    _open(browser, server.url, "boxes", width=390)
    _show(browser, 640, 480, boxes.tolist())

    assert browser.js(BOXES) == browser.js(ROWS) == 300
    placed = np.array(
        browser.js(
            "[...document.querySelectorAll('#drawing .label rect')].filter((one) => one.getBoundingClientRect().width)"
            ".map((one) => ['x', 'y', 'width', 'height'].map((key) => Number(one.getAttribute(key))))"
        )
    )
    assert 5 < len(placed) < 100
    placed[:, 2:] += placed[:, :2]
    overlaps = iou_matrix(placed, placed)
    assert (overlaps - np.eye(len(placed)) < 1e-6).all(), "no name lies on another"
    hidden = browser.js("Number(document.querySelector('#drawing .crowded').dataset.number)")
    browser.js(f"document.querySelectorAll('#found tbody tr')[{hidden}].dispatchEvent(new MouseEvent('mouseenter'))")
    assert browser.js(f"document.querySelector('.label[data-number=\"{hidden}\"]').getBoundingClientRect().width") > 0
    assert browser.complaints() == []


def test_a_file_that_only_the_server_reads(browser: Any, server: Any) -> None:
    stream = io.BytesIO()
    with Image.open(io.BytesIO(_png())) as image:
        image.save(stream, "TIFF")
    _open(browser, server.url, "boxes")
    _drop(browser, stream.getvalue(), "a.tiff")
    browser.wait(f"{STATUS}.includes('cannot show the file')")
    browser.wait("document.getElementById('picture').naturalWidth === 96")
    assert browser.js(f"{STATUS}.split('cannot show').length") == 2
    assert browser.js(BOXES) == browser.js(ROWS) >= 2


def test_the_reference_fits_on_a_phone(browser: Any, server: Any) -> None:
    browser.open(f"{server.url}/docs", width=390)
    browser.wait("document.querySelectorAll('details').length > 10")
    browser.js("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert "mask_pixels" in browser.js("document.body.textContent")
    assert browser.js("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_everything_is_reached_by_keyboard(browser: Any, server: Any) -> None:
    _open(browser, server.url, "boxes")
    _drop(browser, _png())
    browser.wait(f"{STATUS}.includes('answered in')")
    seen = set()
    for _ in range(12):
        _press(browser, "Tab", 9)
        seen.add(browser.js("document.activeElement.id || document.activeElement.tagName"))
        if browser.js("document.activeElement.tagName") == "TR":
            assert browser.js("document.querySelectorAll('#drawing g.object.faint').length") == browser.js(ROWS) - 1
            _press(browser, "ArrowDown", 40)
            assert browser.js("document.activeElement.rowIndex") == 2
    assert {"file", "use-camera", "model", "threshold", "TR", "key", "docs"} <= seen


def test_a_key_is_asked_for_and_kept_in_memory(
    browser: Any, start_server: Callable[..., Any], bundle_arguments: list[str], tmp_path: Any
) -> None:
    (tmp_path / "keys").write_text("open-sesame\n")
    server = start_server(*bundle_arguments, "--set", f"auth.keys_file={tmp_path / 'keys'}")
    browser.open(f"{server.url}/")
    browser.wait(f"{ERROR}.includes('API key')")
    browser.js(
        "{const key = document.getElementById('key'); key.value = 'open-sesame';"
        "key.dispatchEvent(new Event('change'));}"
    )
    browser.wait("document.getElementById('facts').textContent !== ''")
    _drop(browser, _png())
    browser.wait(f"{STATUS}.includes('answered in')")
    assert browser.js("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
