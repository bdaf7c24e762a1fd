"""A text that a model did not write, as a turn of its own: its tokens, its end, and no thought before it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racro.models import endings
from racro.models.folders import EMBEDDED, load_tokenizer

CAPTIONER = EMBEDDED / "captioner"
TURN, TOKENIZER = endings.turn(CAPTIONER), load_tokenizer(CAPTIONER)


@given(st.lists(st.sampled_from(["red three.", "first blue one.", "A", " two "]), max_size=4).map(" ".join))
def test_a_turn_is_its_text_with_one_end(text: str) -> None:
    ids = TURN(text)
    assert TOKENIZER.decode(ids[:-1]) == text
    assert ids[-1] == TOKENIZER.eos_token_id and ids.count(TOKENIZER.eos_token_id) == 1


@pytest.mark.parametrize(("said", "last"), [(None, 7), (7, 7), (9, 9), ([5, 7], 7), ([5, 6], 5)])
def test_the_end_is_one_at_which_engines_stop(said: object, last: int, tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps({} if said is None else {"eos_token_id": said}))
    assert endings.end(tmp_path, 7) == last


def test_a_captioner_that_thinks_first_takes_no_references(tmp_path: Path) -> None:
    folder = tmp_path / "thinker"
    shutil.copytree(CAPTIONER, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    endings.require(folder, {})
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + "<think>\n")
    with pytest.raises(endings.OpensThought, match=r"^rollout\.references: .*template_kwargs, or leave"):
        endings.require(folder, {})
