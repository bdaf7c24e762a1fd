"""The flow `evaluate`: one path for held-out problems and benchmarks, captions that reasoners share, no work twice."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

from flows.evaluation import evaluate
from flows.training import train
from racro.config import Reasoner, Recipe, Server, loading
from racro.engines.local.transformers import TransformersEngine
from racro.engines.opening import open_reasoner
from racro.engines.protocol import Engine, Generation, Refusal, Request, Sampling
from racro.evaluation.compare import compare, read_results
from racro.evaluation.results import NothingEvaluated
from racro.models.folders import EMBEDDED
from racro.schema import Result
from racro.storage.artifacts import read_record
from racro.summary import EvaluationSummary
from tasks.questions import NoBenchmark
from tests.conftest import EMBEDDED_RECIPE, REPOSITORY, TINY
from tests.support import benchmark_rows as made
from tests.support.asked import PICTURE
from tests.support.eventually import eventually
from tests.support.talker import Reply, Talker, spoken_by

pytestmark = pytest.mark.usefixtures("prefect_server")

MODES = ("caption", "direct", "joint", "text")
CAPTIONS = (
    "captioner.engine={type: scripted, rules: [{when: Please describe, replies: [a red square]}, "
    r"{replies: ['\boxed{3}']}]}"
)


def says(*replies: str, when: str = "(?s).*") -> dict[str, Any]:
    return {"type": "scripted", "rules": [{"when": when, "replies": list(replies)}]}


def reasoner(name: str, *replies: str) -> Reasoner:
    return Reasoner.model_validate({"model": name, "engine": says(*replies), "max_tokens": 100})


def dry(*overrides: str) -> Recipe:
    """A recipe whose models are scripts: the captioner answers 3, the reasoner 4."""
    answers = r"reasoner.engine={type: scripted, rules: [{replies: ['\boxed{4}']}]}"
    return loading.load(EMBEDDED_RECIPE, [*TINY, CAPTIONS, answers, "rollout.max_tokens=100", *overrides])


@pytest.fixture(scope="module")
def benchmarks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """Small ones: two variants of three DynaMath questions, and five questions of one's own."""
    folder = tmp_path_factory.mktemp("benchmarks")
    for trial in (1, 2):
        rows = {str(i): {**made.dynamath(i), "answer": f"{i}.25", "level": "high school"} for i in (3, 4, 5)}
        for row in rows.values():
            del row["id"], row["decoded_image"], row["ground_truth"]
        images = {f"trial{trial}/{row['image']}": PICTURE for row in rows.values()}
        made.authors(folder / "dynamath", f"trial{trial}/dataset.json", rows, images)
    (folder / "own.png").write_bytes(PICTURE)
    lines = [{"question": f"How high, {i}?", "answer": str(i), "image": "own.png"} for i in range(1, 6)]
    (folder / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"dynamath": str(folder / "dynamath"), "own": str(folder / "own.jsonl")}


def executed(summary: EvaluationSummary) -> dict[str, int]:
    return {name: stage.executed for name, stage in summary.stages.items()}


def test_every_reasoner_answers_from_the_same_captions(tmp_path: Path, benchmarks: dict[str, str | None]) -> None:
    root, own = str(tmp_path), {"own": benchmarks["own"]}
    three, four, five = (reasoner(f"says-{i}", rf"so \boxed{{{i}}}") for i in (3, 4, 5))
    both = evaluate(dry(), "initial", own, MODES, None, (three, four), run="both", root=root)
    # one part; direct is nobody's, the other three modes are each reasoner's
    assert executed(both) == {"load": 1, "describe": 1, "attempt": 1, "grade": 7, "aggregate": 7, "answer": 6}
    assert all(entry.headline == both.entries[0].headline for entry in both.entries), "each is right once"
    assert all((entry.captioner is None) is (entry.mode == "text") for entry in both.entries)

    third = evaluate(dry(), "initial", own, ("joint",), None, (four, five), run="third", root=root)
    assert executed(third) == {"load": 0, "describe": 0, "attempt": 0, "answer": 1, "grade": 1, "aggregate": 1}
    assert third.entries[0] in both.entries

    rows = list(read_results(root, "both"))
    assert len(rows) == pq.read_table(both.results).num_rows == 5 * 7
    _check_rows(rows)
    _check_page(tmp_path / "both" / "report.html")
    metrics = MlflowClient().get_run(both.mlflow_run_id).data.metrics
    assert metrics["own/caption/says-3/accuracy"] == 0.2
    assert metrics["own/direct/verdict_correct"] == 1
    [compared] = compare(rows, read_results(root, "third"))
    assert (compared.first.reasoner, compared.outcomes["right"], compared.outcomes["wrong"]) == ("says-4", 1, 4)


def test_benchmarks_are_scored_as_their_authors_do(tmp_path: Path, benchmarks: dict[str, str | None]) -> None:
    summary = evaluate(dry(), "initial", benchmarks, root=str(tmp_path))
    dynamath, own = summary.entries
    assert (dynamath.mode, dynamath.benchmark, dynamath.families, dynamath.incomplete) == ("joint", "dynamath", 3, 0)
    assert [metric.name for metric in dynamath.metrics[:2]] == ["worst case of 2 variants", "average"]
    assert own.headline and (own.headline.name, own.headline.value, own.headline.n) == ("accuracy", 0.2, 5)
    assert summary.score is None
    assert "dynamath/joint/embedded/average stderr" in MlflowClient().get_run(summary.mlflow_run_id).data.metrics


def test_what_cannot_be_asked_is_said_and_in_no_metric(tmp_path: Path, benchmarks: dict[str, str | None]) -> None:
    """A question that is too long is asked and refused; a row with a special token is no question."""
    lines = Path(str(benchmarks["own"])).read_text().splitlines()[:3]
    rows = [{**json.loads(line), "image": str(Path(str(benchmarks["own"])).with_name("own.png"))} for line in lines]
    rows[1]["question"], rows[2]["question"] = "word " * 5000, "What is <|image_pad|>?"
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = loading.load(EMBEDDED_RECIPE, TINY)
    summary = evaluate(recipe, "initial", {"own": f"{tmp_path}/own.jsonl"}, ("direct",), run="long", root=str(tmp_path))
    [entry] = summary.entries
    assert (entry.questions, entry.failed, entry.headline and entry.headline.n) == (2, 1, 1)
    assert summary.dropped == {"own": 1}
    [error] = [row.error for row in read_results(str(tmp_path), "long") if row.error]
    assert "max_tokens" in error
    page = (tmp_path / "long" / "report.html").read_text()
    assert "1 row of own cannot be asked and is left out." in page and "max_tokens" in page


def _check_rows(rows: list[Result]) -> None:
    """A row for each answer, with all that led to it."""
    joint = next(row for row in rows if (row.mode, row.reasoner) == ("joint", "says-3"))
    assert (joint.caption, joint.attempt, joint.extracted) == ("a red square", r"\boxed{3}", "3")
    for prompt, words in ((joint.caption_prompt, "Please describe"), (joint.attempt_prompt, "step by step")):
        assert words in str(prompt) and '{"type": "image"}' in str(prompt)
    assert "a red square" in joint.prompt and "tentative model response" in joint.prompt
    assert {row.attempt for row in rows if row.mode in ("caption", "text")} == {None}
    assert {row.caption for row in rows if row.mode in ("direct", "text")} == {None}


def _check_page(file: Path) -> None:
    page = file.read_text()
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?!data:)\w", page)
    assert page.count('<article class="card sample case"') == 5
    assert "data:image/png;base64," in page


def test_reasoners_in_different_places_say_what_one_here_says(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One in this process, one behind two endpoints, of which one dies. Places are no part of any identity."""
    recipe = loading.load(EMBEDDED_RECIPE, TINY)
    evaluate(recipe, "initial", limit=12, run="here", root=str(tmp_path / "here"))
    model = open_reasoner(recipe.reasoner, str(EMBEDDED / "reasoner"), recipe.runtime)
    with contextlib.closing(model), two_endpoints(model) as talkers:
        urls = [{"url": talkers[0].url, "sequences": 1}, {"url": talkers[1].url, "sequences": 2}]
        places = {"away": {"urls": urls}, "unused": {}}
        apart = loading.load(EMBEDDED_RECIPE, [*TINY, f"runtime.reasoners={json.dumps(places)}"])
        away = Reasoner(model="away", engine=Server(), max_tokens=recipe.reasoner.max_tokens)
        both, root = (recipe.reasoner, away), str(tmp_path / "apart")
        summary = evaluate(apart, "initial", limit=12, reasoners=both, run="apart", root=root)
    assert "runtime.reasoners: unused: no reasoner of this evaluation has this name" in caplog.text
    texts: dict[str | None, list[tuple[str, str]]] = {}
    for row in read_results(root, "apart"):
        texts.setdefault(row.reasoner, []).append((row.uid, row.answer))
    here = [(row.uid, row.answer) for row in read_results(str(tmp_path / "here"), "here")]
    assert texts == {"embedded": here, "away": here} and len(here) == 12
    assert len(talkers[0].asked) == 3 and (talkers[0].most, talkers[1].most) == (1, 2)
    records = map(read_record, map(str, (tmp_path / "apart" / "artifacts" / "answer").iterdir()))
    assert sum(record.metrics["moved"] for record in records if record) == 1
    elsewhere = loading.load(EMBEDDED_RECIPE, [*TINY, f"runtime.reasoners.away.urls=[{talkers[1].url}]"])
    again = evaluate(elsewhere, "initial", limit=12, reasoners=both, run="again", root=root)
    assert sum(executed(again).values()) == 0 and again.entries == summary.entries, "though no endpoint is there"


@contextlib.contextmanager
def two_endpoints(model: Engine) -> Iterator[tuple[Talker, Talker]]:
    """Behind both is the same model; the first dies in the middle of its third answer."""

    answered = spoken_by(model)

    def mortal(body: dict[str, Any], i: int) -> Reply:
        if i < 2:
            return answered(body, i)
        threading.Thread(target=first.die).start()
        return None

    def patient(body: dict[str, Any], i: int) -> Reply:
        assert eventually(lambda: len(first.asked) == 3)
        return answered(body, i)

    first, second = Talker(mortal, models=("away",)), Talker(patient, models=("away",))
    try:
        yield first, second
    finally:
        first.die()
        second.die()


def test_a_limited_run_shares_its_questions_with_a_full_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("racro.evaluation.parts.PART", 8)
    root = str(tmp_path)
    some = evaluate(dry(), "initial", limit=20, run="some", root=root)
    assert executed(some)["describe"] == 3 and some.entries[0].questions == 20 and some.score is None
    every = evaluate(dry(), "initial", run="every", root=root)
    assert executed(every)["describe"] == 2  # of four parts two are known; the third was half
    assert every.entries[0].questions == 32 and every.score is not None


def test_what_a_training_has_evaluated_comes_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the initial policy, of a trained one by its folder, and as champion: the same stages, the same score."""
    asked: set[Sampling] = set()
    generate = TransformersEngine.generate

    def watched(self: TransformersEngine, requests: Iterable[Request]) -> Iterator[Generation | Refusal]:
        read = list(requests)
        asked.update(request.sampling for request in read)
        return generate(self, read)

    monkeypatch.setattr(TransformersEngine, "generate", watched)
    root, settings = str(tmp_path), ("iterations=1", "evaluation.temperature=0.5", "evaluation.top_p=0.9", "seed=78")
    recipe = loading.load(EMBEDDED_RECIPE, [*TINY, *settings])
    trained = train(recipe, run="trained", root=root)
    captions = Sampling(1, 0.0, 1.0, recipe.rollout.max_tokens, recipe.runtime.request_deadline)
    answers = Sampling(1, 0.5, 0.9, recipe.reasoner.max_tokens, recipe.runtime.request_deadline)
    assert {captions, answers} < asked, "captions are greedy, answers sampled as the recipe says"
    best = max(trained.base, trained.final, key=lambda score: score.accuracy)
    for policy, score in (("initial", trained.base), (trained.policy.uri, trained.final), ("champion", best)):
        again = evaluate(recipe, policy, root=root)
        assert sum(executed(again).values()) == 0
        assert again.score == score
    assert 0 < trained.base.accuracy < 1


def test_several_answers_to_a_question(tmp_path: Path, benchmarks: dict[str, str | None]) -> None:
    own = {"own": benchmarks["own"]}
    cycling = reasoner("cycling", r"\boxed{1}", r"\boxed{2}", r"\boxed{2}", "hm")
    summary = evaluate(dry(), "initial", own, ("text",), None, (cycling,), samples=4, root=str(tmp_path))
    assert summary.policy is None and "describe" not in summary.stages
    [entry] = summary.entries
    values = {metric.name: metric.value for metric in entry.metrics}
    assert values["pass@1"] == pytest.approx((1 / 4 + 2 / 4) / 5)
    assert values["pass@2"] == pytest.approx((1 / 2 + 5 / 6) / 5)
    assert values["pass@4"] == pytest.approx(2 / 5)
    assert values["majority of 4"] == pytest.approx(1 / 5)
    assert (entry.correct, entry.wrong, entry.unparsed, entry.samples) == (3, 12, 5, 4)


def test_engines_that_give_no_answer_leave_no_table(tmp_path: Path, benchmarks: dict[str, str | None]) -> None:
    own = {"own": benchmarks["own"]}
    late = {"type": "scripted", "rules": [{"replies": ["x"], "delay": 1}]}
    slow = Reasoner.model_validate({"model": "slow", "engine": late})
    with pytest.raises(NothingEvaluated, match=r"own: none of 5 texts was finished .*runtime\.request_dead"):
        evaluate(dry("runtime.request_deadline=0.01"), "initial", own, ("text",), None, (slow,), root=str(tmp_path))
    deaf = Reasoner.model_validate({"model": "deaf", "engine": says("x", when="never said")})
    with pytest.raises(NothingEvaluated, match=r"own: not one of 5 answers.* no rule of the scripted engine matches"):
        evaluate(dry(), "initial", own, ("text",), None, (deaf,), root=str(tmp_path))


def test_a_benchmark_that_is_not_there_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(NoBenchmark, match=r"benchmark mathvsta: not known; one of mathvista, .*, own"):
        evaluate(dry(), "initial", {"wemath": None, "mathvsta": "x"}, root=str(tmp_path))
    with pytest.raises(NoBenchmark, match=r"benchmark own: nowhere\.jsonl is not there; name its folder"):
        evaluate(dry(), "initial", {"wemath": None, "own": "nowhere.jsonl"}, root=str(tmp_path))


def test_killed_at_many_writes_it_repeats_nothing_and_gives_the_same_table(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    driver = subprocess.run(
        [sys.executable, "-P", "-m", "tests.support.killing", str(root), "3", "evaluate"],
        env=os.environ,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=1000,
    )
    assert driver.returncode == 0, driver.stderr[-3000:]
    result = json.loads(driver.stdout.splitlines()[-1])
    assert result["rewritten"] == []
    places = {kill.split(" ")[1].split("/")[2] for kill in result["kills"] if "/artifacts/" in kill}
    assert len(places) >= 3 and len(result["kills"]) >= 4, result["kills"]
    killed, whole = (
        EvaluationSummary.model_validate_json((place / "summary.json").read_text())
        for place in (root / "killed", Path(f"{root}.warm") / "warm")
    )
    assert killed.entries == whole.entries
    assert list(read_results(str(root), "killed")) == list(read_results(f"{root}.warm", "warm"))
