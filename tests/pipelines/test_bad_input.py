"""What goes wrong in a real run: bad data, tampered artifacts, a useless reasoner, a full disk, a lost connection.

Either the run says in one line what is wrong and stops without trying again, or it goes on and counts. Whatever was
half done is never taken for done, and the next run gives the policy of an undisturbed one.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from flows.training import train
from racro import schema
from racro.config import Recipe, loading
from racro.data.problems import TooManyBadRows
from racro.data.sources import BadSource
from racro.evaluation.results import NothingEvaluated
from racro.models.folders import EMBEDDED, model_digest
from racro.schema import Problem, Rollout, ScoredRollout, Verdict
from racro.storage import artifacts, files
from racro.storage.artifacts import BadArtifact
from racro.storage.files import Unwritable
from racro.summary import Summary
from tasks.caption import TooManyRefused
from tasks.recording.report import check_root
from tasks.reward import TooManyUnscored
from tasks.running import policies
from tests.conftest import EMBEDDED_RECIPE, TINY
from tests.support import faulty
from tests.support.task_runs import task_runs

pytestmark = pytest.mark.usefixtures("prefect_server")

RIGHT = {"when": r"(\d+)", "replies": [r"\boxed{\1}"]}
"""A reasoner's rule: it repeats the first number of the caption."""


def scripted(*rules: dict[str, Any]) -> str:
    """A scripted engine as a value for --set."""
    return yaml.safe_dump({"type": "scripted", "rules": list(rules)}, default_flow_style=True, width=10**6).strip()


def dry(*overrides: str, reasoner: dict[str, Any] | None = None) -> Recipe:
    """A recipe without models in its engines: one iteration costs a second."""
    answers = reasoner or {"replies": ["I would say \\boxed{3}"]}
    return loading.load(
        EMBEDDED_RECIPE,
        [
            *TINY,
            "iterations=1",
            "evaluation.problems=4",
            f"captioner.engine={scripted({'replies': ['four bars']})}",
            f"reasoner.engine={scripted(answers)}",
            *overrides,
        ],
    )


def records(root: str) -> dict[str, artifacts.Record]:
    """Stage/folder -> record, of everything under a root that counts as done."""
    fs, path = fsspec.core.url_to_fs(f"{root}/artifacts")
    found = {}
    for file in fs.find(path) if fs.exists(path) else []:
        if file.endswith("/record.json"):
            record = artifacts.read_record(fs.unstrip_protocol(file.rpartition("/")[0]))
            if record is not None:
                found["/".join(file.split("/")[-3:-1])] = record
    return found


def record_of(root: str, stage: str) -> artifacts.Record:
    (record,) = (record for record in records(root).values() if record.stage == stage)
    return record


def folder_of(root: str, stage: str) -> Path:
    (folder,) = (Path(root) / "artifacts" / stage).iterdir()
    return folder


@contextlib.contextmanager
def task_log() -> Iterator[list[str]]:
    """What stages log meanwhile."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler = Keep()
    logging.getLogger("prefect.task_runs").addHandler(handler)
    try:
        yield lines
    finally:
        logging.getLogger("prefect.task_runs").removeHandler(handler)


# --- data of one's own ------------------------------------------------------------------------------------------------


def table(folder: Path, rows: int = 20, bad_images: int = 0) -> str:
    """A parquet file of questions, with its images beside it, some of which are text."""
    content = []
    for i in range(rows):
        file = folder / f"{i}.png"
        if i < bad_images:
            file.write_text("this is no picture")
        else:
            Image.new("RGB", (56, 28), (i, 0, 0)).save(file)
        content.append({"question": f"Which number is on sheet {i}?", "answer": "3", "image": file.name})
    pq.write_table(pa.Table.from_pylist(content), folder / "rows.parquet")
    return str(folder / "rows.parquet")


def from_table(source: str, *overrides: str, reasoner: dict[str, Any] | None = None, **settings: Any) -> Recipe:
    value = {"type": "table", "source": source, "heldout_share": 0.3, **settings}
    problems = f"problems={yaml.safe_dump(value, default_flow_style=True, width=10**6).strip()}"
    return dry(problems, *overrides, reasoner=reasoner)


def test_unusable_images_are_dropped_and_counted_and_the_rest_is_trained_on(tmp_path: Path) -> None:
    root = str(tmp_path / "root")
    summary = train(from_table(table(tmp_path, 20, bad_images=3), max_bad_share=0.2), run="three-bad", root=root)
    assert summary.final.accuracy == 1.0
    prepared = [record for record in records(root).values() if record.stage == "prepare"]
    assert [record.handle["dropped"] for record in prepared] == [3, 3]
    (training,) = (record for record in prepared if record.inputs["heldout"] is None)
    folder = f"{root}/artifacts/prepare/{training.identity[:20]}/{training.place}"
    dropped = list(artifacts.read_shard(f"{folder}/dropped/part-00000.parquet", schema.DroppedRow))
    assert {(row.row, row.reason) for row in dropped} == {(i, "unreadable image") for i in range(3)}
    assert 0 < record_of(root, "caption").metrics["captions"] <= 17 * 4


def test_above_max_bad_share_the_run_stops_and_nothing_of_it_counts_as_done(tmp_path: Path) -> None:
    root, source = str(tmp_path / "root"), table(tmp_path, 20, bad_images=3)
    with pytest.raises(TooManyBadRows, match=r"3 of 20 rows are unusable \(unreadable image 3\).*max_bad_share = 0.1"):
        train(from_table(source, max_bad_share=0.1), run="too-many-bad", root=root)
    assert records(root) == {}
    assert task_runs("too-many-bad")["prepare training problems"] == 1
    table(tmp_path)  # the images are mended
    mended = train(from_table(source, max_bad_share=0.1), run="too-many-bad", root=root)
    assert mended.stages["prepare"].executed == 2


def test_a_corrupt_source_stops_the_run_in_one_line_and_is_not_tried_twice(tmp_path: Path) -> None:
    source = Path(table(tmp_path))
    data = bytearray(source.read_bytes())
    data[4:-200] = b"\xff" * (len(data) - 204)
    source.write_bytes(bytes(data))
    with pytest.raises(BadSource) as caught:
        train(from_table(str(source)), run="corrupt-source", root=str(tmp_path / "root"))
    assert str(source) in str(caught.value) and "\n" not in str(caught.value)
    assert task_runs("corrupt-source")["prepare training problems"] == 1


def test_foreign_columns_are_named_with_the_key_that_mends_it(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([{"prompt": "?", "gold": "3"}]), tmp_path / "rows.parquet")
    with pytest.raises(BadSource, match=r"problems\.columns\.\w+ to one of: prompt, gold"):
        train(from_table(str(tmp_path / "rows.parquet")), run="foreign", root=str(tmp_path / "root"))
    assert task_runs("foreign")["prepare training problems"] == 1


def test_an_image_that_changed_after_preparing_stops_the_run_and_its_remedy_works(tmp_path: Path) -> None:
    root, source = str(tmp_path / "root"), table(tmp_path)
    train(from_table(source), run="before-change", root=root)
    for i in range(20):
        Image.new("RGB", (56, 28), (0, 0, 100 + i)).save(tmp_path / f"{i}.png")
    shutil.rmtree(folder_of(root, "caption"))
    with pytest.raises(
        TooManyRefused, match=r"changed since the problems were prepared; delete (\S+) and run again"
    ) as caught:
        train(from_table(source), run="after-change", root=root)
    assert task_runs("after-change")["caption 0"] == 1
    shutil.rmtree(str(caught.value).partition("; delete ")[2].partition(" and run")[0])
    assert train(from_table(source), run="after-change", root=root).stages["caption"].executed == 1


def bad_rows(folder: Path) -> str:
    """A table with one row of each kind that costs itself, and options in a column."""
    source = table(folder, 24)
    rows = pq.ParquetFile(source).read(use_threads=False).to_pylist()
    for row in rows:
        row["choices"] = None
    rows[0]["question"] = "word " * 5000
    rows[1]["question"] = "What is <|image_pad|>?"
    for row in rows[4:]:
        row.update(answer="red", choices=["red", "blue"], question="Which colour?")
    pq.write_table(pa.Table.from_pylist(rows), source)
    return source


def test_rows_that_cannot_be_asked_cost_themselves_and_options_reach_the_models(tmp_path: Path) -> None:
    root, source = str(tmp_path / "root"), bad_rows(tmp_path)
    settings = {"max_bad_share": 0.2, "columns": {"choices": "choices"}}
    real = "reasoner.engine={type: transformers}"
    recipe = from_table(source, real, "rollout.problems=100", "evaluation.problems=50", **settings)
    with task_log() as lines:
        summary = train(recipe, run="unaskable", root=root)
    assert summary.stages["prepare"].executed == 2
    (training,) = (r for r in records(root).values() if r.stage == "prepare" and r.inputs["heldout"] is None)
    (heldout,) = (r for r in records(root).values() if r.stage == "prepare" and r.inputs["heldout"] is not None)
    assert training.metrics["dropped_prompt too long"] == training.metrics["dropped_special token in the text"] == 1
    assert training.metrics["rows"] + heldout.metrics["rows"] == 22 and heldout.metrics["asked"] == 50
    assert training.inputs["reasoner"]["room"] == 2048 - recipe.reasoner.max_tokens
    assert training.inputs["captioner"] is None, "a script reads anything"
    folder = f"{root}/artifacts/prepare/{training.identity[:20]}"
    problems = list(artifacts.read_table(schema.ProblemTable(uri=folder, rows=0, digest=""), Problem))
    asked = {problem.question.removeprefix("<image>") for problem in problems if problem.kind == "choice"}
    assert asked == {"Which colour?\n(A) red\n(B) blue"}

    said = [line.partition(" problems:")[0] for line in lines if "but there are only" in line]
    assert said == [
        f"rollout.problems = 100, but there are only {len(problems)} training",
        f"evaluation.problems = 50, but there are only {22 - len(problems)} held-out",
    ]
    report = (tmp_path / "root" / "unaskable" / "report.html").read_text()
    assert f"there are {len(problems)}." in report and f"there are {22 - len(problems)}." in report
    assert record_of(root, "caption").metrics["problems_asked"] == 100
    with task_log() as lines:
        assert train(recipe, run="unaskable", root=root).stages["prepare"].cached == 2
    assert len([line for line in lines if "but there are only" in line]) == 2


# --- rollouts that must not be trained on -----------------------------------------------------------------------------


def rollout(uid: str = "a", sample: int = 0, policy: str = "me", reward: float | None = 1.0) -> ScoredRollout:
    return ScoredRollout(
        uid=uid,
        sample=sample,
        policy=policy,
        prompt_ids=(1,),
        completion_ids=(2,),
        logprobs=(-0.5,),
        finish_reason="stop",
        caption="",
        response="",
        verdict=Verdict.CORRECT if reward else Verdict.WRONG,
        values=(reward,),
        reward=reward,
        advantage=2 * reward - 1 if reward is not None else None,
    )


EVALUATION = ("describe", "answer", "grade", "aggregate")
GOOD = tuple(rollout(uid, sample, reward=float(sample)) for uid in "ab" for sample in range(2))


@pytest.mark.parametrize(
    ("rollouts", "message"),
    [
        (GOOD[:3], r"groups of different sizes, \[1, 2\] captions; 'b' has 1"),
        ((*GOOD, GOOD[0]), r"groups of different sizes, \[2, 3\]"),
        ((*GOOD, GOOD[0], GOOD[2]), r"problem 'a': samples \[0, 1, 0\]"),
        ((*GOOD[:3], GOOD[2]), r"problem 'b': samples \[0, 0\]"),
        ((*GOOD[:3], rollout("b", 1, policy="another-policy")), r"rollouts of policy another-poli?\w*, but .* is me"),
        ((*GOOD, rollout("c"), rollout("c", 1)), "unknown problem 'c'"),
    ],
    ids=["ragged", "ragged by a duplicate", "duplicates", "one duplicate", "another policy", "unknown problem"],
)
def test_bad_rollouts_are_refused_with_the_facts(rollouts: tuple[ScoredRollout, ...], message: str) -> None:
    from racro.training.planning import BadRollouts, plan

    problems = {
        uid: Problem(uid=uid, question="", answer="", kind="text", category="", choices=(), images=(), scene=None)
        for uid in "ab"
    }
    assert plan(GOOD, problems, "me", 2).steps == 1
    with pytest.raises(BadRollouts, match=message) as caught:
        plan(rollouts, problems, "me", 2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tampered", "reader"), [("caption", "reward-answer"), ("reward-answer", "compose"), ("compose", "update")]
)
def test_tampered_rows_are_noticed_before_they_are_used_and_deleting_them_heals(
    tmp_path: Path, tampered: str, reader: str
) -> None:
    root = str(tmp_path)
    whole = train(dry(), run="whole", root=root)
    (shard,) = folder_of(root, tampered).glob("*/part-00000.parquet")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(bytes(data))
    shutil.rmtree(folder_of(root, reader))
    with pytest.raises(BadArtifact, match=r"part-00000\.parquet is corrupt.*delete its folder and run again") as caught:
        train(dry(), run=f"tampered-{tampered}", root=root)
    assert str(shard) in str(caught.value)
    assert task_runs(f"tampered-{tampered}")[f"{reader.replace('-', ' ')} 0"] == 1
    shutil.rmtree(shard.parent)
    healed = train(dry(), run=f"tampered-{tampered}", root=root)
    assert healed.policy.digest == whole.policy.digest
    assert (healed.stages[tampered].executed, healed.stages[reader].executed) == (1, 1)


# --- a reasoner of no use ---------------------------------------------------------------------------------------------


def test_garbage_from_the_reasoner_is_counted_and_leaves_the_policy_as_it_was(tmp_path: Path) -> None:
    with task_log() as lines:
        summary = train(dry(reasoner={"replies": ["hm, bars, bars, bars"]}), run="garbage", root=str(tmp_path))
    metrics = record_of(str(tmp_path), "reward-answer").metrics
    assert (metrics["verdict_unparsed"], metrics["unscored"], metrics["groups_informative"]) == (32, 0, 0)
    assert summary.final.accuracy == 0.0 and summary.final.n == 4
    assert summary.optimizer_steps == 0
    assert summary.policy.digest == model_digest(EMBEDDED / "captioner") == model_digest(Path(summary.policy.uri))
    assert "no informative group: the policy stays as it is" in lines


LONG = {"replies": ["so let me think about it"], "tokens": 500}


def test_answers_that_are_too_long_count_as_wrong_where_the_recipe_says_so(tmp_path: Path) -> None:
    summary = train(dry("rewards.0.truncated=wrong", reasoner=LONG), run="long-wrong", root=str(tmp_path))
    metrics = record_of(str(tmp_path), "reward-answer").metrics
    assert (metrics["verdict_truncated"], metrics["unscored"], metrics["mean"]) == (32, 0, 0.0)
    assert (summary.final.accuracy, summary.final.n) == (0.0, 4)


def test_too_many_unscored_captions_stop_the_run_and_it_is_not_tried_twice(tmp_path: Path) -> None:
    with pytest.raises(
        TooManyUnscored, match=r"no reward answer \(32 truncated\).*max_unscored = 0\.2.*reasoner\.max_tokens"
    ):
        train(dry("rewards.0.truncated=unscored", reasoner=LONG), run="long-unscored", root=str(tmp_path))
    assert task_runs("long-unscored")["reward answer 0"] == 1
    assert {record.stage for record in records(str(tmp_path)).values()} == {"prepare", *EVALUATION, "caption"}
    tolerant = dry("rewards.0.truncated=unscored", "rewards.0.max_unscored=1", reasoner=LONG)
    assert train(tolerant, run="long-tolerant", root=str(tmp_path)).optimizer_steps == 0
    assert (
        record_of(str(tmp_path), "reward-answer").metrics["unscored"]
        == record_of(str(tmp_path), "compose").metrics["unscored"]
        == 32
    )


NEVER = {"replies": ["\\boxed{3}"], "delay": 3600}


def test_a_reasoner_that_never_answers_stops_the_run_soon(tmp_path: Path) -> None:
    with pytest.raises(NothingEvaluated, match=r"heldout: none of 4 texts.*runtime\.request_deadline"):
        train(dry("runtime.request_deadline=0.05", reasoner=NEVER), run="never", root=str(tmp_path))
    assert task_runs("never")["answer heldout, caption 1/1, iteration 0"] == 1


def test_a_reasoner_that_often_never_answers_stops_the_run_at_training(tmp_path: Path) -> None:
    rules = [{"when": "Q1[0-9]", **NEVER}, {"replies": ["\\boxed{3}"]}]
    rows = [{"question": f"Q{i}?", "answer": "3", "image": "0.png"} for i in (*range(10, 20), *range(20, 24))]
    table(tmp_path, 2)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    heldout = [{"question": "Q99?", "answer": "3", "image": "1.png"}]
    pq.write_table(pa.Table.from_pylist(heldout), tmp_path / "heldout.parquet")
    recipe = from_table(
        str(tmp_path / "rows.parquet"),
        f"reasoner.engine={scripted(*rules)}",
        "runtime.request_deadline=0.5",
        heldout_source=str(tmp_path / "heldout.parquet"),
    )
    with pytest.raises(TooManyUnscored, match=r"\d+ failed.*runtime\.request_deadline"):
        train(recipe, run="often-never", root=str(tmp_path / "root"))
    assert task_runs("often-never")["reward answer 0"] == 1


def test_a_problem_that_cannot_be_captioned_costs_its_row_and_many_of_them_stop_the_run(tmp_path: Path) -> None:
    table(tmp_path, 2)
    rows = [{"question": f"Q{i}?", "answer": "3", "image": "0.png"} for i in range(10, 24)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    pq.write_table(pa.Table.from_pylist([{**rows[0], "question": "Q99?"}]), tmp_path / "heldout.parquet")
    root = str(tmp_path / "root")

    def recipe(*overrides: str) -> Recipe:
        return from_table(
            str(tmp_path / "rows.parquet"),
            f"captioner.engine={scripted({'when': 'Q(1[0-9]|99)', 'replies': ['four bars']})}",
            "rollout.problems=14",
            *overrides,
            heldout_source=str(tmp_path / "heldout.parquet"),
        )

    line = (
        r"^iteration 0: 4 of 14 problems cannot be captioned.*max_unscored of the rewards is 0\.2.*"
        r"Problem \S+ cannot be .*no rule of"
    )
    with pytest.raises(TooManyRefused, match=line):
        train(recipe(), run="refused", root=root)
    assert task_runs("refused")["caption 0"] == 1
    with task_log() as lines:
        summary = train(recipe("rewards.0.max_unscored=0.3"), run="tolerant", root=root)
    assert summary.stages["caption"].executed == 1
    metrics = record_of(root, "caption").metrics
    assert (metrics["captions"], metrics["refused"]) == (40, 4)
    captioned = {
        row.uid
        for row in artifacts.read_shard(str(next(folder_of(root, "caption").glob("*/part-00000.parquet"))), Rollout)
    }
    refused = {line.split()[1] for line in lines if "cannot be captioned" in line}
    assert (len(captioned), len(refused)) == (10, 4) and not captioned & refused
    with pytest.raises(TooManyUnscored, match=r"4 of 14 problems have no captions.*max_unscored = 0\.25"):
        train(recipe("rewards.0.max_unscored=0.25"), run="strict", root=root)  # with the captions of the tolerant run


def test_captions_that_the_reasoner_refuses_have_no_reward(tmp_path: Path) -> None:
    source = table(tmp_path, 20)
    reads_some = {"when": "sheet 1?[0-7]\\b", "replies": ["\\boxed{3}"]}
    recipe = from_table(source, "rewards.0.max_unscored=1", "rollout.problems=14", reasoner=reads_some)
    train(recipe, run="unanswered", root=str(tmp_path / "root"))
    metrics = record_of(str(tmp_path / "root"), "reward-answer").metrics
    assert 0 < metrics["refused"] == metrics["unscored"] == metrics["verdict_failed"] < 14 * 4


# --- storage ----------------------------------------------------------------------------------------------------------


def real(*overrides: str) -> Recipe:
    """One iteration with the real models: its update takes steps."""
    return loading.load(EMBEDDED_RECIPE, [*TINY, "iterations=1", "evaluation.problems=8", *overrides])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> Summary:
    summary = train(real(), run="undisturbed", root=str(tmp_path_factory.mktemp("undisturbed")))
    assert summary.optimizer_steps > 0
    return summary


def test_a_full_disk_stops_the_run_and_with_space_it_ends_as_if_undisturbed(undisturbed: Summary) -> None:
    faulty.install()
    root = "faulty://full/runs"
    done: dict[str, artifacts.Record] = {}
    places = (
        r"/prepare/.+/images/",
        r"/describe/.+/record\.json",
        r"/caption/.+/part-",
        r"/update/.+/model\.safetensors",
    )
    for place in places:
        with faulty.full_disk(place), pytest.raises(OSError, match="No space left on device"):
            train(real(), run="full", root=root)
        now = records(root)
        assert now | done == now, "what was done is done no more, or was done again"
        assert place.split("/")[1] not in {record.stage for record in now.values()} - {"prepare", *EVALUATION}
        done = now
        assert max(task_runs("full").values()) == 1
    healed = train(real(), run="full", root=root)
    assert healed.policy.digest == undisturbed.policy.digest
    assert (healed.base, healed.final) == (undisturbed.base, undisturbed.final)
    assert records(root) | done == records(root)
    assert model_digest(_download(healed.policy.uri)) == undisturbed.policy.digest
    assert not [path for path in FILES.find("/full") if "/artifacts/" in path and ".probe" in path]


FILES = faulty.FaultyFileSystem()


def _download(uri: str) -> Path:
    import tempfile

    folder = tempfile.mkdtemp(prefix="racro-test-policy-")
    FILES.get(f"{uri}/", f"{folder}/", recursive=True)
    return Path(folder)


@pytest.mark.parametrize(
    ("what", "place", "retried"),
    [
        ("write", r"/caption/.+/part-", "caption 0"),
        ("write", r"/caption/\w+/record", "caption 0"),
        ("read", r"/caption/.+/part-", "reward answer 0"),
        ("write", r"/update/.+/model\.safetensors", "update 0"),
    ],
)
def test_a_connection_lost_for_longer_than_patience_lasts_runs_that_stage_again(
    what: str, place: str, retried: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PAUSES", ())
    faulty.install()
    run = f"lost-{what}-{retried.split()[0]}-{len(place)}"
    with faulty.lost_connection(what, place):
        train(dry(), run=run, root=f"faulty://{run}/runs")
    counts = task_runs(run)
    assert counts[retried] == 2
    assert [name for name, count in counts.items() if count > 1] == [retried]


def test_a_connection_lost_while_looking_up_a_result_does_not_make_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    faulty.install()
    monkeypatch.setattr(files, "PAUSES", (0.0,))
    train(dry(), run="lookup", root="faulty://lookup/runs")
    with faulty.lost_connection("read", r"/caption/\w+/record"):
        again = train(dry(), run="lookup", root="faulty://lookup/runs")
    assert sum(total.executed for total in again.stages.values()) == 0


def test_a_lost_connection_to_s3_heals_too_and_at_the_start_it_is_a_bad_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real client and a port where nobody listens: botocore's errors are none of Python's."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    said = r"--root s3://bucket/runs: cannot be written to \(Could not connect"
    with pytest.raises(Unwritable, match=said) as caught:
        check_root("s3://bucket/runs")
    lost = caught.value.__cause__
    assert isinstance(lost, Exception) and policies.heals(lost)
    assert not policies.heals(caught.value)


def test_without_retries_a_lost_connection_fails_the_run_and_the_next_run_heals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files, "PAUSES", ())
    faulty.install()
    recipe = dry("runtime.retries=0")
    with faulty.lost_connection("read", r"/caption/.+/part-"), pytest.raises(ConnectionError):
        train(recipe, run="once", root="faulty://once/runs")
    assert train(recipe, run="once", root="faulty://once/runs").stages["caption"].cached == 1
