"""May the captions of a group share one pass over their prompt? Found out on the model itself, not by its name.

Recurrent layers, images that see each other or positions of another kind do not fit (`racro.training.grouped`). Their
log-probs then differ from those of a row for each caption. Called by `racro.training.replay` in the first
iteration, and when rows are longer than any that was compared.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch

from racro.training.bins import Row
from racro.training.grouped import Packed
from racro.training.passes import BinInputs

logger = logging.getLogger(__name__)


class Ways:
    """What is known about both ways of a model, as far as they were compared."""

    def __init__(self, allowed: float) -> None:
        """`allowed`: mean difference per token, in nats."""
        self.allowed, self.agree, self.compared = allowed, True, 0

    def may_share(
        self,
        rows: Iterable[Row],
        inputs: BinInputs,
        logprobs: Callable[[Packed], torch.Tensor],
        of_all: Callable[[bool], bool],
    ) -> bool:
        """May the captions of these rows share their prompts? Compares if none of the rows before was so long.

        Rows of one caption share nothing, so they show nothing; without any other, the answer is no. `of_all`: is
        something so in any of several processes?
        """
        longest = max((row for row in rows if len(row.captions) > 1), key=lambda row: row.tokens, default=None)
        if longest is None:
            return False
        if self.agree and longest.tokens > self.compared:
            self.agree = not of_all(not ways_agree(longest, inputs, logprobs, self.allowed))
            self.compared = longest.tokens
        return self.agree


@torch.no_grad()
def ways_agree(row: Row, inputs: BinInputs, logprobs: Callable[[Packed], torch.Tensor], allowed: float) -> bool:
    """Are the log-probs of a row's captions the same with a shared prompt as with a row for each?

    `logprobs`: of a forward. `allowed`: mean difference per token, in nats. What does not agree is logged.
    """
    prompts = inputs.prompts([row.group])
    alone = [replace(row, captions=(caption,)) for caption in row.captions]
    plain = torch.cat([logprobs(inputs.packed(prompts, (part,), shared=False)) for part in alone])
    try:
        gap = (logprobs(inputs.packed(prompts, (row,), shared=True)) - plain).abs().mean().item()
        what = f"log-probs of {inputs.work.groups[row.group].problem.uid!r} differ by {gap:.3g} per token"
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # anything that a model of another build says to a mask or to positions of ours
        gap, what = torch.inf, f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
    if gap <= allowed:
        return True
    logger.warning("each caption gets a pass over its prompt, which takes longer: shared by a group, %s", what)
    return False
