"""Reward `describes` (RAPID's penalty, arXiv 2506.04559 v3): is the caption a description of an image at all?

The policy judges its own captions, without the image. With weight 0.1 and the answer as gate, a right answer from a
text that describes nothing is worth 0.9.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from racro import config
from racro.engines.protocol import Engine, Prompt, Refusal, Request, Sampling
from racro.prompts import DESCRIBES_DIGEST, describes_messages
from racro.rewards.protocol import Case, Kind, Means, Value, counted
from racro.rollouts.captioner import Progress, silent
from racro.rollouts.reasoner import one, watched
from racro.rollouts.thoughts import spoken

_MARKS = " \t\n*_`'\"#>(["
"""What may stand before a word."""
JUDGEMENT_TOKENS = 8
"""Room for "Yes." in any tokenizer."""


class Describes(Kind[config.DescribesReward]):
    """0 for a description, -1 for any other text, None if the policy does not say. Asked only where the gate counts."""

    version = 2
    blind = True
    prompts = DESCRIBES_DIGEST
    needs = frozenset(("policy", "gate"))
    remedy = "raise runtime.request_deadline, or look at what the captioner answers"

    def score(self, cases: Sequence[Case], means: Means) -> Iterator[Value]:
        """The values. Progress counts unique captions."""
        assert means.policy
        whole = [case.rollout.caption for case in counted(cases) if case.rollout.finish_reason != "deadline"]
        judged = judgements(whole, means.policy, means.deadline, means.progress)
        for case in cases:
            described = judged.get(case.rollout.caption) if case.gate else None
            if described is None:
                yield Value(None, "no judgement" if case.gate else "not asked")
            else:
                yield Value(0.0, "description") if described else Value(-1.0, "no description")


def judgements(
    captions: Sequence[str], policy: Engine, deadline: float, progress: Progress = silent
) -> dict[str, bool | None]:
    """Does each caption describe an image, as the policy says? None if time ran out or it refused."""
    unique = list(dict.fromkeys(captions))
    sampling = Sampling(n=1, temperature=0.0, max_tokens=JUDGEMENT_TOKENS, deadline=deadline)
    requests = (Request(key, Prompt(describes_messages(caption)), sampling, 0) for key, caption in enumerate(unique))
    judged: dict[str, bool | None] = {}
    for made in watched(policy.generate(requests), len(unique), progress):
        said = one(made)
        if isinstance(said, Refusal) or said.finish_reason == "deadline":
            judged[unique[made.key]] = None
        else:
            judged[unique[made.key]] = described(said.text)
    return judged


def described(text: str) -> bool | None:
    """Does the policy say yes? Anything else counts as no; None if its thoughts have not ended."""
    words = spoken(text)
    if text.strip() and not words:
        return None
    return words.lstrip(_MARKS).lower().startswith("yes")
