"""Fill the page template: content as one escaped JSON block, styles and scripts inline, everything else forbidden.

The page carries a content security policy that allows nothing but its own style sheet and script, by their SHA-256, and
pictures inside the page. So it cannot reach a network, and a class name or file name that looks like markup stays text.
"""

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from string import Template
from typing import Any

# What pages share, before their own.
_SCRIPTS = ("dom.js", "charts.js")
# Inside <script> only `</script`, `<!--` and `<script` end or change the text; `&` matters to readers of XHTML, and the
# two separators end a line of JavaScript.
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def render_page(content: Mapping[str, Any], *, package: str, scripts: Sequence[str]) -> str:
    """Return the page as text.

    Args:
        content: Plain values as the scripts read them; `title` is also the document's title.
        package: Where the page's own scripts lie.
        scripts: Their file names, in order; the last one puts the page together.

    Raises:
        ValueError: `content` holds NaN or infinity.
    """
    style = _read(__package__, "page.css")
    # One strict function around all scripts: nothing becomes global, nothing of the page around can be named by them.
    texts = [*(_read(__package__, name) for name in _SCRIPTS), *(_read(package, name) for name in scripts)]
    script = '(() => {\n"use strict";\n' + "\n".join(texts) + "})();\n"
    return Template(_read(__package__, "template.html")).substitute(
        title=html.escape(content["title"]),
        policy=f"default-src 'none'; img-src data:; style-src {_source(style)}; script-src {_source(script)}; "
        "base-uri 'none'; form-action 'none'",
        style=style,
        script=script,
        content=script_json(content),
    )


def script_json(value: Any) -> str:
    """Return JSON that can stand inside a script element whatever texts it holds."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False)
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    return text


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _read(package: str, name: str) -> str:
    return files(package).joinpath(name).read_text(encoding="utf-8")
