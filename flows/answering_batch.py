"""Flow `answer-batch`: a file of questions -> a file of answers, with a trained captioner and the recipe's reasoner.

What `racro answer -` does on a command line. The answers are there whole or not at all; nothing is cached.
"""

from __future__ import annotations

import time
from collections import Counter

from prefect import flow

from flows.answering_lines import answer_lines
from flows.engine_pair import Models, open_racro
from racro.config import Recipe
from racro.schema import CHAMPION
from racro.summary import BatchSummary
from tasks.choose import INITIAL
from tasks.recording import publish
from tasks.running.progress import Progress


@flow(name="answer-batch", flow_run_name="{answers}", persist_result=False)
def answer_batch(questions: str, answers: str, recipe: Recipe, policy: str = CHAMPION) -> BatchSummary:
    """Answer a file of questions.

    Args:
        questions: Path or URI of a jsonl file, each line {"images": ["a.png"], "question": "..."}, with `gold` and `id`
            if you like.
        answers: Path or URI of the jsonl file to write; one line for each question, in order.
        recipe: Models, engines and settings.
        policy: `champion`, the best in MLflow; `initial`, the captioner as the recipe names it; or a policy's folder.
    """
    started = time.monotonic()
    lines = publish.read_lines(questions)
    progress = Progress("answer", "questions")
    said = []
    with open_racro(Models(policy=None if policy == INITIAL else policy), recipe) as racro:
        for content in answer_lines(racro, lines):
            said.append(content)
            progress(len(said), len(lines))
    progress.finish()
    verdicts = Counter(content["verdict"] for content in said if "verdict" in content)
    unanswerable = sum("error" in content for content in said)
    return publish.answers(questions, answers, said, verdicts, unanswerable, time.monotonic() - started)
