"""A page of captions shows what was written, and nothing that was written can change the page."""

from __future__ import annotations

import io
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from racro.reports.captions import Written, markdown
from racro.schema import Verdict
from tests.support.examples import examples


def written(text: str = "a bar") -> Written:
    return Written(question=text, gold="3", caption=text, response=text, verdict=Verdict.CORRECT, reward=0.5)


@settings(max_examples=examples(30))
@given(st.text(max_size=2000))
def test_texts_stay_quotes_without_markup(text: str) -> None:
    page = markdown([written(text), written()], "captions")
    assert "<" not in page
    assert len(re.findall(r"^# ", page, re.M)) == 1 and len(re.findall(r"^## ", page, re.M)) == 2
    assert page.count("gold answer **3** · ✓ correct · reward 0.5") >= 2


def test_images_are_inside_and_small() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (2000, 1000)).save(buffer, "PNG")
    page = markdown([written().model_copy(update={"images": (buffer.getvalue(),), "reward": None})], "captions")
    assert page.count("![image](data:image/png;base64,") == 1 and len(page) < 4000 and "reward unscored" in page
