"""The engine without a model: replies by rules, for tests, examples and dry runs of a workflow.

Not a mock: it implements the whole protocol, with token ids, limits and deadlines. Token ids are the UTF-8 bytes of the
text and 0 for the end; log-probs are 0. Opened by `racro.engines.building`.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Iterator, Sequence

from racro.config import ScriptedReply
from racro.engines.protocol import Completion, Engine, Generation, Refusal, Request, Sampling
from racro.prompts import plain_text

END = 0
"""Token id of the end; a zero byte does not occur in text."""
UNLIKELY = math.log(1e-3)
"""Log-prob of a forced text that is not in the rule's reply; one that is there has 0."""


class ScriptedEngine(Engine):
    """The first rule whose `when` is found in the last user message answers."""

    def __init__(self, rules: Sequence[ScriptedReply]) -> None:
        self.rules = [(re.compile(rule.when), rule) for rule in rules]

    def generate(self, requests: Iterable[Request]) -> Iterator[Generation | Refusal]:
        """See Engine; a batch is one prompt, in the order of the requests. Refuses prompts that no rule matches."""
        for request in requests:
            text = next(plain_text(m) for m in reversed(request.prompt.messages) if m["role"] == "user")
            found = next(((match, rule) for pattern, rule in self.rules if (match := pattern.search(text))), None)
            if found is None:
                yield Refusal(request.key, f"no rule of the scripted engine matches {text[:80]!r}")
            elif request.forced is not None:
                yield Generation(request.key, tuple(text.encode()), (_scored(*found, request.forced),))
            else:
                yield Generation(request.key, tuple(text.encode()), _completions(*found, request.sampling))

    def swap(self, folder: str) -> None:
        """See Engine. There are no weights."""

    def close(self) -> None:
        """See Engine. There is nothing to free."""


def _scored(match: re.Match[str], rule: ScriptedReply, forced: str) -> Completion:
    """A forced text is certain if it is in the rule's first reply, and unlikely otherwise."""
    data = forced.encode()
    first = 0.0 if forced.strip() in _fill(rule.replies[0], match) else UNLIKELY
    return Completion(tuple(data), (first, *[0.0] * (len(data) - 1))[: len(data)], forced, "stop")


def _completions(match: re.Match[str], rule: ScriptedReply, sampling: Sampling) -> tuple[Completion, ...]:
    """The rule's replies in turn, as many as fit before the deadline."""
    until = time.monotonic() + sampling.deadline
    completions = []
    for sample in range(sampling.n):
        left = until - time.monotonic()
        time.sleep(max(0.0, min(rule.delay, left)))
        if rule.delay > left:
            completions.append(Completion((), (), "", "deadline"))
        else:
            reply = _fill(rule.replies[sample % len(rule.replies)], match)
            completions.append(_completion(reply, rule.tokens, sampling.max_tokens))
    return tuple(completions)


def _fill(reply: str, match: re.Match[str]) -> str:
    """Only \\1 to \\9 are special: `match.expand` would read the \\b of \\boxed as a backspace."""
    return re.sub(r"\\([1-9])", lambda group: match[int(group[1])] or "", reply)


def _completion(reply: str, tokens: int | None, max_tokens: int) -> Completion:
    """The reply within `max_tokens`; `tokens` is the length that it pretends to have, its end included."""
    data = reply.encode()
    pretended = len(data) + 1 if tokens is None else tokens
    if pretended <= max_tokens:
        return Completion((*data, END), (0.0,) * (len(data) + 1), reply, "stop")
    kept = max_tokens if tokens is None else len(data) * max_tokens // pretended
    text = data[:kept].decode(errors="ignore")  # the cut may fall inside a character
    return Completion(tuple(text.encode()), (0.0,) * len(text.encode()), text, "length")
