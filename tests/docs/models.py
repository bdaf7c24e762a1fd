"""Writes docs/models.md from the families that the tests build: `make models`.

What stands in the tables is what `tests/engines/test_families.py` and `test_reasoner_families.py` hold.
`tests/docs/test_models_page.py` fails when the page is stale.
"""

from __future__ import annotations

from pathlib import Path

from tests.support.families import FAMILIES, REFUSED, UNREADABLE
from tests.support.reasoners import REASONERS

PAGE = Path(__file__).parents[2] / "docs" / "models.md"

TEXT = """# Models

Which models can be captioner and reasoner? Nothing in the code names a family: prompts are encoded as a model's own
processor and chat template say, and everything is kept that its forward accepts. This page is made by `make models`
from the families that the tests build as tiny random models; a family that is not listed may work too.

Before anything runs, the command checks that transformers knows the architecture, that the processor loads and that the
chat template carries the prompts. What does not fit is refused in one line that names the model. Before the first
iteration, engine and trainer are compared on prompts and log-probs of a few captions (stage parity); what differs stops
the run.

Refused by name before anything is prepared, and found out from the code of transformers without weights, so other
families are as well:

- for a training, {refused}: transformers and TRL compute their log-probs in different ways;
- everywhere, {unreadable}, whose prompt is read in both directions, and models with an encoder for their prompt.

## Captioners

For each of these, with prompts of one and two images: captions in groups, engine against trainer, updates of several
steps and of one step, the next iteration, LoRA adapters.

| family | `model_type` | what is special | needs |
|---|---|---|---|
{captioners}

## Reasoners

Any language model that writes text, and any vision-language model, which is then shown no images.

| reasoner | what is special |
|---|---|
{reasoners}

## Chat templates

- **System text.** Some templates refuse a system message or drop it. Its text then opens the user's turn, and the log
  says so once.
- **Form.** Some want plain text, some lists of parts; what a template takes is found out by filling it with a probe.
- **No template.** The model is refused: put a `chat_template.jinja` into a local copy of its folder.
- **Arguments.** `captioner.template_kwargs` and `reasoner.template_kwargs` go to the template, for example
  `{{enable_thinking: false}}`. One that the template does not read is refused. Of servers, only vLLM's take them.
- **Beginning-of-text** is written by the template alone.

## Thinking

A captioner's thoughts are no caption: the reasoner reads what follows `</think>`. The policy is trained on all tokens
that it wrote. If the token limit comes before the caption begins, the reasoner is not asked and the verdict is
`truncated`; the key of that name of the reward `answer` says whether that is wrong or unscored. Answers of a reasoner
are looked for after its thoughts.

## Adapters

`captioner.lora.targets` names layers by what they do. Where a model fuses gate and up projection (`gate_up_proj`), or
has linear attention or convolutions (`in_proj_qkv`, `in_proj_z`, `in_proj`, `out_proj`), or calls its layers `w1` to
`w3`, those take the part of the named ones. Whether vLLM serves such an adapter is checked when it is loaded.
"""

SPECIAL = {
    "qwen2_vl": "M-RoPE",
    "qwen3_vl": "interleaved M-RoPE, features in several layers",
    "qwen3_5": "recurrent states, thinking",
    "glm4v": "M-RoPE, fused `gate_up_proj`",
    "glm46v": "M-RoPE, fused `gate_up_proj`",
    "idefics3": "tiles, decoder called `text_model`",
    "smolvlm": "tiles, decoder called `text_model`",
    "internvl": "tiles",
    "gemma3": "sliding windows, image tokens that see each other",
    "gemma4": "sliding windows, input per layer",
    "llava_onevision": "tiles",
    "minicpmv4_6": "slices, recurrent states",
    "mistral3": "Pixtral: images of any size, a row of tokens each",
    "lfm2_vl": "convolutions that keep a state",
    "ovis2": "tokens around an image that have features of their own",
}
"""By model_type."""


def page() -> str:
    """The text of docs/models.md."""
    captioners = ["| Qwen2.5-VL | `qwen2_5_vl` | the default: M-RoPE, windows in the vision tower | |"]
    for family in FAMILIES:
        needs = f" `{family.needs}` " if family.needs else " "
        captioners.append(f"| {family.name} | `{family.kind}` | {SPECIAL[family.kind]} |{needs}|")
    reasoners = [f"| {reasoner.name} | {reasoner.special} |" for reasoner in REASONERS]
    return TEXT.format(
        captioners="\n".join(captioners),
        reasoners="\n".join(reasoners),
        refused=" and ".join((", ".join(family.name for family in REFUSED[:-1]), REFUSED[-1].name)),
        unreadable=", ".join(family.name for family in UNREADABLE),
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
