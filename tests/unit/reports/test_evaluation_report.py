"""The page of an evaluation refers to nothing outside itself, is bounded, and is not broken by what a model wrote."""

from __future__ import annotations

import io
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from racro.data.images import BadImage
from racro.evaluation.results import entry
from racro.reports import evaluation as page
from racro.schema import Verdict
from tests.support.asked import PICTURE, question
from tests.support.debian import chromium
from tests.unit.evaluation.test_compare import results

RIGHT, WRONG = Verdict.CORRECT, Verdict.WRONG
HOSTILE = '</p><script>alert("x")</script><img src="http://evil.example/x.png" onerror=alert(1)>'


def rendered(caption: str, response: str, images: list[bytes]) -> str:
    rows = [row.model_copy(update={"caption": caption, "response": response}) for row in results({"a": WRONG})]
    data = page.EvaluationData(
        run="r",
        captioner="c",
        finished_at="now",
        entries=(entry([question("a", "q", "1")], rows),),
        cases=(page.case(rows, images),),
        questions=1,
        dropped={"own": 1},
        results="runs/r/results",
    )
    return page.render(data)


def test_what_a_model_wrote_stays_text() -> None:
    text = rendered(HOSTILE, HOSTILE, [PICTURE])
    assert text.count("<script>") == 1, "the page's own"
    assert "http://evil.example/x.png" in text and 'src="http' not in text
    assert re.findall(r'src="(.{10})', text) == ["data:image"]


def test_long_texts_lose_their_middle() -> None:
    text = rendered("so " * 100_000, "begin " + "hm " * 100_000 + "end", [])
    assert len(text) < 60_000
    assert "begin" in text and "end</p>" in text and "characters …]" in text


@pytest.mark.parametrize(
    ("mode", "size"), [("RGB", (4000, 30)), ("RGBA", (900, 1200)), ("L", (20, 20)), ("P", (400, 9))]
)
def test_thumbnails_are_small(mode: str, size: tuple[int, int]) -> None:
    buffer = io.BytesIO()
    Image.effect_noise(size, 90).convert(mode).save(buffer, "PNG")
    data = page.thumbnail(buffer.getvalue(), "noise.png")
    made = Image.open(io.BytesIO(data))
    assert max(made.size) <= page.THUMBNAIL and len(data) < 80_000
    with pytest.raises(BadImage):
        page.thumbnail(b"no image", "x")


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50), st.sampled_from([RIGHT, WRONG])), max_size=150))
def test_a_bounded_choice_of_questions_wrong_ones_first(drawn: list[tuple[str, int, Verdict]]) -> None:
    said = sorted(((name, str(uid)), verdict) for name, uid, verdict in drawn)
    chosen = page.choose(said, room=20)
    wrong = {key for key, verdict in said if verdict is WRONG}
    every = {key for key, _ in said}
    assert len(set(chosen)) == len(chosen) <= 20
    assert set(chosen) <= every
    names = {key[0] for key in every}
    if all(sum(key[0] == name for key in wrong) <= 5 for name in names):  # four fifths of an equal share
        assert wrong <= set(chosen)
    for name in {key[0] for key in wrong}:
        assert any(key[0] == name for key in chosen), "each benchmark with a wrong answer is shown"


def test_questions_are_taken_from_all_of_a_benchmark() -> None:
    chosen = page.choose([(("b", f"{i:03d}"), WRONG) for i in range(400)], room=4)
    assert [uid for _, uid in chosen] == ["000", "100", "200", "300"]


# --- in a browser -----------------------------------------------------------------------------------------------------


def shown(verdicts: dict[str, dict[str, Verdict]], folder: Path) -> dict[str, list[bool]]:
    """Which answers a reader sees when the page opens: of each question by mode, nothing where it is hidden itself."""
    cases = []
    for uid, modes in verdicts.items():
        rows = results({uid: WRONG})
        answers = [rows[0].model_copy(update={"mode": mode, "verdict": said}) for mode, said in modes.items()]
        cases.append(page.case(answers, []))
    data = page.EvaluationData(
        run="r",
        captioner="c",
        finished_at="now",
        entries=(entry([question(uid, "q", "1") for uid in verdicts], results(dict.fromkeys(verdicts, WRONG))),),
        cases=tuple(cases),
        questions=len(verdicts),
        dropped={},
        results="runs/r/results",
    )
    (folder / "page.html").write_text(page.render(data), "utf-8")
    command = [str(chromium()), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += ["--dump-dom", (folder / "page.html").as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True).stdout
    found = {}
    for article in re.findall(r'<article class="card sample case".*?</article>', dom, re.DOTALL):
        opening, *turns = re.findall(r'<(?:article|div class="turn)[^>]*>', article)
        uid = re.search(r"· (\w+) ·", article)
        assert uid
        found[uid[1]] = [] if " hidden" in opening else [" hidden" not in turn for turn in turns]
    return found


def test_the_page_opens_with_the_answers_that_are_not_correct(tmp_path: Path) -> None:
    verdicts = {
        "right": {"caption": RIGHT, "direct": RIGHT},
        "mixed": {"caption": RIGHT, "direct": WRONG},
        "unparsed": {"caption": Verdict.UNPARSED},
        "failed": {"caption": Verdict.FAILED},
    }
    expected = {"right": [], "mixed": [False, True], "unparsed": [True], "failed": [True]}
    assert shown(verdicts, tmp_path) == expected


def test_a_page_without_a_wrong_answer_opens_with_all_of_them(tmp_path: Path) -> None:
    assert shown({"a": {"caption": RIGHT}, "b": {"caption": RIGHT}}, tmp_path) == {"a": [True], "b": [True]}
