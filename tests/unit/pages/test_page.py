import base64
import hashlib
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser

import pytest

from visionyard.data.inspection import page as inspection_page
from visionyard.evaluation.report import build
from visionyard.pages import render_page, script_json

PAGES = {
    "report": ("visionyard.evaluation.report", build.SCRIPTS),
    "inspection": ("visionyard.data.inspection", inspection_page.SCRIPTS),
}
HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]>&amp;",
    "line\u2028separator\u2029",
    "\"quotes\" 'and' \\backslash",
    "${title} $style {{x}}",
    "Zebra 🦓 und Größe",
]


class _Scripts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._is_inside = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._is_inside = tag == "script"
        if self._is_inside:
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._is_inside = False

    def handle_data(self, data: str) -> None:
        if self._is_inside:
            self.texts[-1] += data


@pytest.mark.parametrize("text", HOSTILE)
def test_content_comes_through_and_stays_content(text: str) -> None:
    page = render_page({"title": text, "value": [text]}, package="visionyard.evaluation.report", scripts=["report.js"])
    parsed = _Scripts()
    parsed.feed(page)
    assert len(parsed.texts) == 2
    assert json.loads(parsed.texts[0]) == {"title": text, "value": [text]}


def test_the_json_block_holds_no_markup() -> None:
    assert not set("<>&\u2028\u2029") & set(script_json(HOSTILE))
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_json(float("nan"))


def test_the_policy_allows_this_script_and_style_only() -> None:
    page = render_page({"title": "x"}, package="visionyard.evaluation.report", scripts=["report.js"])
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    for kind, pattern in (("style", r"<style>(.*?)</style>"), ("script", r"<script>(.*?)</script>")):
        text = re.search(pattern, page, re.DOTALL)
        assert text is not None
        digest = base64.b64encode(hashlib.sha256(text[1].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy[1]
    assert "default-src 'none'" in policy[1]
    assert "unsafe" not in policy[1]


@pytest.mark.parametrize(("package", "scripts"), PAGES.values(), ids=PAGES)
def test_nothing_points_to_a_network(package: str, scripts: Sequence[str]) -> None:
    page = render_page({"title": "x"}, package=package, scripts=scripts)
    assert set(re.findall(r"https?://[^\"'\s)]*", page)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\(|localStorage|sessionStorage|document\.cookie|innerHTML|\beval\(", page)
