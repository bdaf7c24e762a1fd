"""The parts of an answer as HTML, for the page. Pure: texts in, escaped HTML out.

What belongs to them is `page.css`. Called by `racro.serving.page`.
"""

from __future__ import annotations

import re
from html import escape

from racro.answering.cases import Step
from racro.schema import Mode
from racro.serving.completion import Answered
from racro.serving.narration import SECOND_TITLES, Written

HEAD = """
<header class="racro-head">
  <h1>RACRO <span>Ask about an image</span></h1>
  <div class="racro-flow">
    <div>Your image and question</div><i>&rarr;</i>
    <div><b>Captioner</b> sees the image and describes what the question needs</div><i>&rarr;</i>
    <div><b>Reasoner</b> never sees the image; it answers from the description</div><i>&rarr;</i>
    <div>Answer</div>
  </div>
</header>
"""
EMPTY = """
<div class="racro-empty">
  <p><b>The answer appears here,</b> with everything that led to it.</p>
  <p>Click an example, or bring an image of your own. Then press <b>Ask</b>.</p>
</div>
"""
SECOND: dict[Mode, str] = {
    "joint": "The captioner tries by itself; the reasoner may disagree",
    "clues": "The reasoner asks for details; the captioner answers",
    "check": "The captioner looks again where the reasoner is in doubt",
}
"""What the captioner's second text is, in the modes that have one."""
BOX = re.compile(r"\\boxed\{([^{}]*)\}")
"""How models mark an answer; on the page it gets a box."""


def waiting(mode: Mode, title: str = "") -> str:
    """Asked, and nothing is written yet."""
    return _card(title, _lines(Written({}, frozenset(), mode), "Waiting for the models"), busy=True)


def writing(written: Written, title: str = "") -> str:
    """What is there so far."""
    return _card(title, _lines(written), busy=True)


def stopped(written: Written, title: str = "") -> str:
    """What was there when the visitor stopped it."""
    return _card(title, _lines(written, current="later") + '<div class="racro-facts">Stopped before its end.</div>')


def answered(made: Answered, title: str = "") -> str:
    """All of it, the answer first."""
    usage = made.usage
    final = made.answer.final or "no answer: the reasoner was cut off"
    facts = (
        f"{made.seconds:.1f} s",
        f"captioner {sum(usage.captioner):,} tokens",
        f"reasoner {sum(usage.reasoner):,} tokens",
    )
    head = f'<div class="racro-answer"><span>Answer</span><strong>{escape(final)}</strong></div>'
    foot = f'<div class="racro-facts">{" &middot; ".join(facts)}</div>'
    return _card(title, head + _lines(made.written) + foot)


def failed(message: str, title: str = "") -> str:
    """Why there is no answer."""
    return _card(title, f'<div class="racro-error"><b>No answer.</b> {escape(message)}</div>')


def refused(message: str) -> str:
    """Why an upload cannot be used."""
    return f'<div class="racro-error" role="alert"><b>This file cannot be used:</b> {escape(message)}</div>'


def _card(title: str, content: str, busy: bool = False) -> str:
    head = f'<h2 class="racro-title">{escape(title)}</h2>' if title else ""
    return f'<section class="racro-card{" racro-busy" if busy else ""}">{head}{content}</section>'


def _lines(written: Written, hint: str = "", current: str = "now") -> str:
    """Caption, the second text of modes that have one, reasoning; those that are still to come in grey.

    `current`: how the one that is being written is marked.
    """
    parts: list[tuple[Step, str, str]] = [("caption", "Caption", "The captioner describes the image")]
    if written.mode in SECOND:
        parts.append(("attempt", SECOND_TITLES[written.mode], SECOND[written.mode]))
    parts.append(("answer", "Reasoning", "The reasoner thinks about the text; it does not see the image"))
    first = next((step for step, _, _ in parts if step not in written.finished), None)
    rows = []
    for step, name, what in parts:
        thoughts, text = written.thoughts(step), written.spoken(step)
        shown = "\n\n".join(filter(None, (thoughts if step == "answer" else "", text))).strip()
        state = "done" if step in written.finished else current if step == first else "later"
        if state == "done" and not shown:
            continue  # none was needed
        body = BOX.sub(r"<b class='racro-box'>\1</b>", escape(shown)) or (escape(hint) if state == "now" else "")
        rows.append(
            f'<div class="racro-part racro-{state}" data-part="{step}"><h3>{name}<small>{what}</small></h3>'
            f"<pre>{body}</pre></div>"
        )
    return "".join(rows)
