"""Wrappers, end tokens, full width, look-alikes and spaces change no verdict, right or wrong."""

from __future__ import annotations

import string
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from racro.grading import equal, grade
from racro.grading.normalise import normalised
from racro.schema import Gold, Verdict

OPTIONS = ("12 cm", "15 cm", "18 cm", "20 cm")
WORDS = ("red", "blue cube", "Paris", "well-known")
golds = st.one_of(
    st.integers(-(10**6), 10**6).map(lambda n: Gold(str(n), "integer")),
    st.decimals(-1000, 1000, places=2, allow_nan=False).map(lambda n: Gold(str(n), "float")),
    st.tuples(st.integers(1, 99), st.integers(2, 99)).map(lambda n: Gold(f"{n[0]}/{n[1]}", "expression")),
    st.tuples(st.integers(1, 99), st.integers(2, 99)).map(lambda n: Gold(f"({n[0]}, {n[1]})", "list")),
    st.sampled_from("ABCD").map(lambda answer: Gold(answer, "choice", OPTIONS)),
    st.sampled_from(["A, B", "A, C", "B, C, D"]).map(lambda answer: Gold(answer, "choices", OPTIONS)),
    st.sampled_from(["yes", "no"]).map(lambda answer: Gold(answer, "yesno")),
    st.sampled_from(WORDS).map(lambda answer: Gold(answer, "text")),
    st.integers(1, 999).map(lambda n: Gold(f"{n} kHz", "integer")),
)
WRAPPERS = (
    "\\boxed{{{}}}",
    "<answer>{}</answer>",
    "<think>first 9, then B</think><answer>{}</answer>",
    "<think>\nfirst 9, then B\n</think>\n\n<answer>\n{}\n</answer>\n",
    "<final_answer>{}</final_answer>",
    "<answer>{}",
    "<answer>\\boxed{{{}}}</answer>",
    "[ANSWER]{}[/ANSWER]",
    "<|begin_of_box|>{}<|end_of_box|>",
    "**Answer:** {}",
    "Answer: {}",
    "The final answer is: {}",
    '{{"answer": "{}"}}',
    "We look at it.\n\n**Final Answer**\n\n\\boxed{{{}}}",
    "答案：{}。",
    "答案是{}。",
)
TOKENS = (
    *("<｜end▁of▁sentence｜>", "<eos>", "</s>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "[EOS]", "<|endoftext|>"),
    *("<|end_of_text|>", "<|return|>", "<pad><pad>", "\n<eos>", "<|im_end|>\n<|im_start|>user\nIs it A or 7?"),
)
HYPHENS = "‐‑‒–−﹣－"
INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e"
FULL = str.maketrans({char: chr(ord(char) + 0xFEE0) for char in string.ascii_letters + string.digits + "(),%/=+"})


def right(response: str, gold: Gold) -> bool:
    return grade(response, "stop", gold).verdict is Verdict.CORRECT


@settings(deadline=None)
@given(golds, golds, st.sampled_from(WRAPPERS), st.sampled_from(("", *TOKENS)))
def test_a_wrapper_and_an_end_token_change_no_verdict(gold: Gold, other: Gold, wrapper: str, token: str) -> None:
    assert right(wrapper.format(gold.answer) + token, gold)
    assert right(wrapper.format(other.answer) + token, gold) == right(wrapper.format(other.answer), gold)
    if other.kind == gold.kind and not equal(other.answer, gold):
        assert not right(wrapper.format(other.answer) + token, gold)


@settings(deadline=None)
@given(golds, golds, st.sampled_from(INVISIBLE), st.sampled_from(HYPHENS), st.integers(0, 8))
def test_look_alikes_change_no_verdict(gold: Gold, other: Gold, nothing: str, hyphen: str, at: int) -> None:
    for answer in (gold.answer, other.answer):
        for alike in (
            answer.translate(FULL),
            answer[:at] + nothing + answer[at:],
            nothing + answer,
            answer.replace("-", hyphen),
            answer.replace(" ", "\u00a0"),
            f"\u00a0{answer}\u3000",
        ):
            assert equal(alike, gold) == equal(answer, gold), alike
            assert right(f"\\boxed{{{alike}}}", gold) == equal(answer, gold), alike


@settings(deadline=None)
@given(golds, st.sampled_from([r"\,", r"\;", r"\:", r"\!", r"\ ", r"\quad", "~", " ", r"\quad\,", "{}"]))
def test_spaces_in_latex_change_no_verdict(gold: Gold, space: str) -> None:
    for answer in (f"{gold.answer}{space}", f"\\text{{{gold.answer}}}{space}"):
        assert right(f"\\boxed{{{answer}}}", gold), answer
    if space != "{}":
        assert right(f"\\boxed{{{space} {gold.answer}}}", gold)


@given(st.integers(1, 10**6), st.sampled_from(HYPHENS))
def test_a_hyphen_before_a_number_is_a_minus(value: int, hyphen: str) -> None:
    for form in ("The answer is {}.", "So it is {}.", "\\boxed{{{}}}", "答案是{}。"):
        assert right(form.format(f"{hyphen}{value}"), Gold(str(-value), "integer"))
        assert not right(form.format(f"{hyphen}{value}"), Gold(str(value), "integer"))


@given(st.text(max_size=60))
def test_plain_characters_stay_as_they_are(text: str) -> None:
    once = normalised(text)
    assert normalised(once) == once
    if text.isascii():
        assert once == text


PIECES = (
    *TOKENS,
    *"<[½²‑\u200b。选#",
    *("<answer>", "</answer>", "<answer></answer>", "答案是", "Answer:\n", r"\,", "$1", "$", "5 m ", "1, ", "5 kg m "),
    *("not ", ", red", "or ", "is 5 ", "<|", "A、", "\\text{", "^{-1}", "1 h 3 min ", "…"),
)


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("kind", ["integer", "choice", "text", "expression", "set"])
def test_any_amount_of_anything_takes_no_time(piece: str, kind: str) -> None:
    gold = Gold("3 m" if kind == "text" else "3", kind, OPTIONS, question="Is it red, or blue, or " + piece * 40)  # type: ignore[arg-type]
    grade("\\boxed{3 m}", "stop", Gold("3 m", "integer"))  # the registry of units
    started = time.process_time()
    for response in (piece * (300_000 // len(piece)), "\\boxed{" + piece * (900 // len(piece)) + "}", piece * 30):
        grade(response, "stop", gold)
        grade(response, "length", gold)
    assert time.process_time() - started < 2
