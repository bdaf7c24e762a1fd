"""Flow `answer-batch`: a file of questions -> a file of answers, with a trained captioner and the recipe's reasoner.

What `racro answer -` does on a command line. The answers are there whole or not at all; nothing is cached.
"""

from __future__ import annotations

import time
from collections import Counter

from prefect import flow

from flows.answering_lines import answer_lines
from flows.engine_pair import MODE_SETTINGS, Models, check, open_racro
from racro.config import ModeSettings, Recipe
from racro.schema import CHAMPION, Mode
from racro.summary import BatchSummary
from tasks.recording import events, publish
from tasks.running.progress import Progress


@flow(name="answer-batch", flow_run_name="{answers}", persist_result=False, on_failure=[events.failed])
def answer_batch(
    questions: str,
    answers: str,
    recipe: Recipe,
    policy: str = CHAMPION,
    root: str = "runs",
    mode: Mode = "joint",
    settings: ModeSettings = MODE_SETTINGS,
    examples: str | None = None,
) -> BatchSummary:
    """Answer a file of questions.

    Args:
        questions: Path or URI of a jsonl file, each line {"images": ["a.png"], "question": "..."}, with `gold` and `id`
            if you like.
        answers: Path or URI of the jsonl file to write; one line for each question, in order.
        recipe: Models, engines and settings.
        policy: The name of a run; `champion`, the best in MLflow for this recipe's reasoner and held-out problems;
            `initial`, the recipe's captioner; a policy's folder or URI; or its digest.
        root: Folder or URI (s3://...) with the runs and policies.
        mode: `joint`, as in the paper, `caption`, `vote`, `best`, `clues`, `shots` or `check`.
        settings: How often the modes `vote`, `best`, `clues` and `shots` ask, and which caption is best.
        examples: Path or URI of a jsonl file of solved examples, each line with `question`, `caption` and `answer`; for
            mode `shots`.
    """
    started = time.monotonic()
    lines = publish.read_lines(questions)
    progress = Progress("answer", "questions")
    said = []
    models = Models(policy=policy, root=root, mode=mode, settings=settings, examples=examples)
    check(models)
    with open_racro(models, recipe) as racro:
        for content in answer_lines(racro, lines):
            said.append(content)
            progress(len(said), len(lines))
    progress.finish()
    verdicts = Counter(content["verdict"] for content in said if "verdict" in content)
    unanswerable = sum("error" in content for content in said)
    return publish.answers(questions, answers, said, verdicts, unanswerable, time.monotonic() - started)
