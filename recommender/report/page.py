"""The page: one HTML file that loads nothing, made of the bundled script, style and the data.

Names in a log are hostile. The data stands in an element of its own, as base64 of compressed JSON,
the script writes it as text only, and the Content-Security-Policy runs no other script than the
bundled one, known by its hash.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
from importlib.resources import files
from string import Template
from typing import Any

_ASSETS = files("recommender.report") / "assets"


def page(data: dict[str, Any]) -> str:
    """The whole page.

    Args:
        data: as `page_data.page_data` returns it.
    """
    script, style = _asset("page.js"), _asset("page.css")
    return Template(_asset("page.html")).substitute(
        policy=_policy(script, style),
        title=html.escape(str(data["about"]["cluster"])),
        style=style,
        licences=html.escape(_asset("licences.txt")),
        data=_packed(data),
        script=script,
    )


def _packed(data: dict[str, Any]) -> str:
    """The data as JSON, compressed to some tenth, in letters; no time of day is in it."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _policy(script: str, style: str) -> str:
    return (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
