"""Forms against the regular expressions of their papers' code, and what a policy that thinks is judged by."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racro import config
from racro.rewards.format import FORMS, Format
from racro.rewards.protocol import Means
from racro.schema import Rollout
from tests.support.cases import group, rollout

MEANS = Means(seed=0, iteration=0, deadline=1.0)
PIECES = ("<description>", "</description>", "<think>", "</think>", "<answer>", "</answer>", "\\boxed{", "}", "\n", " ")
TEXTS = st.lists(st.sampled_from((*PIECES, "a", "/", "<", ">", "3")), max_size=14).map("".join)
SR1 = st.builds(
    "{}<description>{}</description>{}<think>{}</think>{}\\boxed{{{}}}{}".format, *[st.sampled_from(["", " ", "a"])] * 7
)
R1 = st.builds(
    "<think>\n{}\n</think>{}<answer>\n{}\\boxed{{{}}}{}\n</answer>{}".format,
    st.sampled_from(["", "a", "\n"]),
    st.sampled_from(["\n", "", "\n\n"]),
    *[st.sampled_from(["", "a", "\n", "}"])] * 3,
    st.sampled_from(["", "\n"]),
)


def published(form: str, text: str) -> bool:
    """The expressions that Vision-SR1 and Perception-R1 match a whole text with."""
    if form == "vision_sr1":
        text = re.sub(r"\s*(<|>|/)\s*", r"\1", text)
        expression = r"\s*<description>.*?</description>\s*<think>.*?</think>\s*\\boxed\{.*?\}\s*"
    else:
        expression = r"<think>\n.*?\n</think>\n<answer>\n.*?\\boxed{.+?}.*?\n</answer>"
    return re.fullmatch(expression, text, re.DOTALL) is not None


@pytest.mark.parametrize("form", FORMS)
@given(st.one_of(TEXTS, SR1, R1))
def test_a_text_has_the_form_that_the_paper_asks_for(form: str, text: str) -> None:
    assert FORMS[form](text) == published(form, text)


@pytest.mark.parametrize("form", FORMS)
def test_a_long_text_takes_no_time(form: str) -> None:
    start = time.process_time()
    FORMS[form]("<description></description><think></think>\\boxed{" * 20_000)
    FORMS[form]("<think>\n\n</think>\n<answer>\n\\boxed{" * 20_000)
    FORMS[form]("<" + " " * 200_000 + "a")
    assert time.process_time() - start < 5


def test_what_a_policy_thinks_counts_and_what_the_deadline_cut_is_unscored() -> None:
    text = "<think>\nhm\n</think>\n<answer>\n\\boxed{3}\n</answer>"
    said = [
        rollout("\\boxed{3}", sample=0).model_copy(update={"written": text}),
        rollout(text, sample=1),
        rollout("\\boxed{3}", sample=2),
        rollout(text, "deadline", sample=3),
    ]
    values = Format(config.FormatReward()).score(group(said), MEANS)
    assert [found.value for found in values] == [1.0, 1.0, 0.0, None]


def test_a_row_that_was_written_before_is_read() -> None:
    old = {name: value for name, value in rollout("a").model_dump().items() if name != "written"}
    assert Rollout.model_validate(old).written == ""
