"""How prompts are put to a template: whatever form it takes, all of the prompt comes out, once; or it is refused."""

from __future__ import annotations

import copy
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racro.models import compatibility
from racro.models.chat_template import BadTemplate, ChatTemplate, folded
from racro.models.folders import EMBEDDED, load_processor, load_tokenizer
from racro.prompts import caption_messages, plain_text, reasoner_messages

CHATML = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + CHATML
)
DROPS_SYSTEM = "{% for m in messages if m.role != 'system' %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
EACH = "{% for m in messages %}<{{ m.role }}>"
LIST_ONLY = EACH + "{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}<assistant>"
PARTS = "{% for p in m.content %}{% if p.type == 'image' %}<|image_pad|>{% else %}{{ p.text }}{% endif %}{% endfor %}"
TEXT_SYSTEM = EACH + "{% if m.role == 'system' %}{{ 'S:' + m.content }}{% else %}" + PARTS + "{% endif %}{% endfor %}"
FLAT = "{% for m in messages %}{{ '<' + m.role + '>' + m.content }}{% endfor %}<assistant>"
OFF = "enable_thinking is defined and not enable_thinking"
THINKS = CHATML + "<think>\n{% if " + OFF + " %}\n</think>\n{% endif %}"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(EMBEDDED / "reasoner")


@pytest.fixture(scope="module")
def processor() -> Any:
    return load_processor(EMBEDDED / "captioner")


def of(tokenizer: Any, template: str | None, processor: Any = None, **options: Any) -> ChatTemplate:
    tokenizer.chat_template = template
    if processor is not None:
        processor.chat_template = template
    return ChatTemplate("a/model", tokenizer, processor, options)


@pytest.mark.parametrize("change", ["tojson", "escape", "truncate(200)", "upper", "wordwrap(40)", "replace('{', '')"])
def test_a_template_that_changes_what_is_written_is_refused(tokenizer: Any, change: str) -> None:
    with pytest.raises(BadTemplate, match="cannot carry a prompt of this project"):
        of(tokenizer, CHATML.replace("m.content", f"m.content | {change}"))


def test_of_several_templates_the_default_is_taken(tokenizer: Any) -> None:
    several: Any = {"default": CHATML, "tool_use": "tools"}
    assert of(tokenizer, several).text == CHATML
    with pytest.raises(BadTemplate, match=r"several chat templates \(rag, tool_use\) and none is called default; keep"):
        of(tokenizer, {"rag": CHATML, "tool_use": "tools"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("template", "says_so"),
    [(CHATML, False), (LIST_ONLY, False), (FLAT, False), (NO_SYSTEM, True), (DROPS_SYSTEM, True)],
    ids=["text", "list", "flat", "refuses system", "drops system"],
)
def test_a_reasoner_reads_the_whole_prompt(tokenizer: Any, template: str, says_so: bool) -> None:
    made = of(tokenizer, template)
    messages = reasoner_messages("How tall is it?", "A red bar.")
    text = made.fill(messages, 0)
    for message in messages:
        assert text.count(plain_text(message)) == 1
    assert (made.note is not None) == says_so
    assert not says_so or "a/model" in str(made.note)


@pytest.mark.parametrize("template", [TEXT_SYSTEM, FLAT, NO_SYSTEM.replace("{{ m.content }}", PARTS)])
def test_a_captioner_reads_the_whole_prompt_with_its_images(tokenizer: Any, processor: Any, template: str) -> None:
    made = of(tokenizer, template, processor)
    messages = caption_messages("<image> and <image>: which is taller?", 2)
    text = made.fill(messages, 2)
    assert text.count("<|image_pad|>") == 2
    assert text.index("Question") < text.index("<|image_pad|>") < text.index("which is taller")
    assert plain_text(messages[0]) in text
    with pytest.raises(ValueError, match="2 places for images in a prompt with 1"):
        made.fill(messages, 1)


@pytest.mark.parametrize("token", ["<|im_end|>", "<|image_pad|>", "<end_of_turn>"])
def test_a_prompt_that_writes_a_special_token_of_the_model_is_refused(tokenizer: Any, token: str) -> None:
    own = copy.deepcopy(tokenizer)
    own.add_special_tokens({"additional_special_tokens": [token]})
    made = of(own, CHATML)
    with pytest.raises(ValueError, match=f"special token in the text: {re.escape(token)} means more than text to a/m"):
        made.fill(reasoner_messages(f"How {token} tall?", "A bar."), 0)
    with pytest.raises(ValueError, match="special token in the text"):
        made.fill(reasoner_messages("How tall?", f"A bar.{token}"), 0)
    assert made.fill(reasoner_messages("Is |a|<|b|>0, and <s an image?", "<image> <unknown>"), 0)


def test_templates_that_lose_a_part_of_every_prompt_are_refused_by_name(tokenizer: Any) -> None:
    with pytest.raises(BadTemplate, match=r"a/model has no chat template: .*base model"):
        of(tokenizer, None)
    with pytest.raises(BadTemplate, match="a/model cannot carry a prompt"):
        of(tokenizer, "{{ messages[0].role }}")


ENDLESS = "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}"
FAULTS = ["{{ 1 / 0 }}", ENDLESS, "{{ messages[9].content }}", "{{ messages[0].a.b }}", "{{"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_template_that_fails_is_refused_by_name(tokenizer: Any, fault: str) -> None:
    with pytest.raises(BadTemplate, match="a/model cannot carry a prompt"):
        of(tokenizer, fault + CHATML)


@pytest.mark.parametrize("fault", FAULTS[:-1])
def test_a_prompt_that_the_template_fails_on_is_refused(tokenizer: Any, fault: str) -> None:
    made = of(tokenizer, "{% if 'bar' in messages[-1].content %}" + fault + "{% endif %}" + CHATML)
    assert made.fill(reasoner_messages("How tall?", "A cube."), 0)
    with pytest.raises(ValueError, match="the chat template of a/model refuses this prompt"):
        made.fill(reasoner_messages("How tall?", "A bar."), 0)


def test_what_the_template_is_given(tokenizer: Any) -> None:
    assert of(tokenizer, THINKS).opening == "<think>\n"
    made = of(tokenizer, THINKS, enable_thinking=False)
    assert made.opening == ""
    assert made.fill(reasoner_messages("q", "c"), 0).endswith("</think>\n")
    with pytest.raises(BadTemplate, match=r"template_kwargs\.thinking: the chat template of a/model does not read it"):
        of(tokenizer, THINKS, thinking=True)


def test_an_opened_thought_belongs_to_the_turn(tokenizer: Any) -> None:
    made = of(tokenizer, THINKS)
    assert made.turn("so 3</think>3") == "<think>\nso 3</think>3"
    assert made.turn("<think>already there") == "<think>already there"


@given(st.text(min_size=1), st.text(min_size=1), st.booleans())
def test_folding_keeps_every_text_in_order(system: str, user: str, parts: bool) -> None:
    content: Any = [{"type": "text", "text": user}] if parts else user
    [message] = folded([{"role": "system", "content": system}, {"role": "user", "content": content}])
    assert message["role"] == "user"
    assert plain_text(message) == f"{system}\n\n{user}"
    assert folded([{"role": "user", "content": content}]) == [{"role": "user", "content": content}]


def test_a_model_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    leave_out = shutil.ignore_patterns("*.safetensors")
    folder = Path(shutil.copytree(EMBEDDED / "reasoner", tmp_path / "model", ignore=leave_out))
    assert compatibility.check("reasoner", str(folder), folder, {}) is None
    with pytest.raises(compatibility.UnsupportedModel, match=r"captioner\.model: .*no vision-language model"):
        compatibility.check("captioner", str(folder), folder, {})
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(BadTemplate, match=r"reasoner\.model: .*has no chat template"):
        compatibility.check("reasoner", str(folder), folder, {})
    (folder / "config.json").write_text('{"model_type": "of_tomorrow"}')
    with pytest.raises(compatibility.UnsupportedModel, match=r"reasoner\.model: .*cannot load .*of_tomorrow"):
        compatibility.check("reasoner", str(folder), folder, {})
