"""ViRL39K as published: each known defect is counted and caught, overlaps are found, the rest goes into rollouts."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import huggingface_hub
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from pydantic import ValidationError

from flows.training import train
from racro.benchmarks import BENCHMARKS
from racro.config import Virl39kColumns, Virl39kProblems, loading
from racro.data.contamination import fingerprints
from racro.data.images import open_image
from racro.data.problems import Prepared, TooManyBadRows, load
from racro.data.sources import BadSource
from racro.prompts import IMAGE_TAG
from racro.schema import Rollout, RolloutTable
from racro.storage import artifacts
from tests.conftest import EMBEDDED_RECIPE, TINY
from tests.support.virl39k import SCHEMA, Made, benchmark


def both_parts(config: Virl39kProblems, folder: Path, *marks: Any) -> tuple[Prepared, Prepared]:
    return tuple(load(config, str(folder), 0, heldout, *marks) for heldout in (None, 10**6))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("virl39k") / "data", rows=200)


@pytest.mark.usefixtures("prefect_server")
def test_a_thousand_rows_with_every_defect_become_rollouts_of_the_embedded_captioner(tmp_path: Path) -> None:
    made = Made(tmp_path / "data", rows=1000, overlapping=True, zipped=True)
    problems = {
        "type": "virl39k",
        "source": str(made.folder),
        "heldout_share": 0.2,
        "benchmarks": {"logicvista": benchmark(tmp_path / "logicvista")},
    }
    recipe = loading.load(EMBEDDED_RECIPE, [*TINY, "iterations=1", "evaluation.every=1", "evaluation.problems=8"])
    recipe = type(recipe).model_validate(recipe.model_dump() | {"problems": problems})
    root = tmp_path / "root"
    summary = train(recipe, run="virl39k", root=str(root))

    assert summary.stages["prepare"].executed == 2 and summary.stages["fingerprint"].executed == 1
    (folder,) = (root / "artifacts" / "caption").iterdir()
    rollouts = list(artifacts.read_table(RolloutTable(uri=str(folder), rows=0, digest=""), Rollout))
    assert len(rollouts) == 8 * 4 and all(len(rollout.logprobs) == len(rollout.completion_ids) for rollout in rollouts)

    counts = [json.loads(file.read_text()) for file in (root / "artifacts" / "prepare").glob("*/*/statistics.json")]
    training = max(counts, key=lambda found: found["problems"])
    for found in counts:
        assert found["rows"] == 1000 and found["unusable"] == made.unusable
        assert found["left_out"] == {
            "overlaps with a benchmark": sum(made.overlaps.values()),
            "origin DeepScaleR": made.text_only,
        }
        assert found["overlaps"] == {f"logicvista by {by}": n for by, n in made.overlaps.items()}
    assert 0.7 * made.problems < training["problems"] < 0.9 * made.problems

    with get_client(sync_client=True) as client:
        ours = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[UUID(summary.prefect_flow_run_id)]))
        shown = {artifact.key: str(artifact.data) for artifact in client.read_artifacts(artifact_filter=ours)}
    assert f"| problems | {training['problems']} |" in shown["problems-training"].replace("**", "")
    assert "v1_3" not in shown["problems-training"] and "3" in shown["overlaps-training"]
    logged = MlflowClient().get_run(summary.mlflow_run_id).inputs.dataset_inputs
    profiles = {tag.value: json.loads(data.dataset.profile) for data in logged for tag in data.tags}
    assert profiles["training"] == training and set(profiles) == {"training", "heldout"}


@pytest.mark.parametrize("zipped", [False, True])
def test_every_defect_is_counted_and_nothing_else_falls_away(tmp_path: Path, zipped: bool) -> None:
    made = Made(tmp_path / "data", rows=120, zipped=zipped)
    out = tmp_path / "out"
    training, heldout = both_parts(Virl39kProblems(source=str(made.folder), max_bad_share=0.2), out)
    problems = training.problems + heldout.problems
    assert training.statistics.unusable == made.unusable == heldout.statistics.unusable
    assert training.statistics.left_out == {"origin DeepScaleR": made.text_only}
    assert len(problems) == made.problems
    assert training.statistics.repaired + heldout.statistics.repaired == made.repaired
    for problem in problems:
        assert problem.question.count(IMAGE_TAG) == len(problem.images) > 0
        assert "boxed" not in problem.answer and problem.answer not in ("", "None")
        assert all(open_image(ref, str(out)).mode == "RGB" for ref in problem.images)
    kinds = Counter(problem.kind for problem in problems)
    assert {"integer", "choice", "float", "yesno", "expression", "text"} <= set(kinds)
    assert (out / "images").exists() is zipped, "files stay where they are, members of an archive are written"


def test_zipped_and_unpacked_are_the_same_problems(tmp_path: Path) -> None:
    config = [Virl39kProblems(source=str(tmp_path / name), max_bad_share=0.2) for name in ("zip", "folder")]
    for name in ("zip", "folder"):
        Made(tmp_path / name, rows=120, zipped=name == "zip")
    first, second = (load(each, str(tmp_path / "out"), seed=0) for each in config)
    assert first.digest() == second.digest() and first.statistics == second.statistics


def test_lost_placeholders_come_back_in_the_order_of_the_images(tmp_path: Path) -> None:
    made = Made(tmp_path / "data", rows=120)
    training, heldout = both_parts(Virl39kProblems(source=str(made.folder), max_bad_share=0.2), tmp_path)
    questions = {p.question for p in training.problems + heldout.problems if len(p.images) == 3}
    assert {question.partition("What")[0] for question in questions if "first" not in question} == {IMAGE_TAG * 3}
    assert "In the first <image>, but not in <image>, what is <image>?" in questions


# --- filters ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "keeps", "reason"),
    [
        ({"max_pass_rate": 0.99}, lambda rate, _: rate is None or rate < 1, "pass rate outside"),
        (
            {"min_pass_rate": 0.1, "unrated": False},
            lambda rate, _: (rate or 0) >= 0.1,
            "pass rate unknown",
        ),
        ({"categories": ("Spatial Reasoning",)}, lambda _, category: category == "Spatial Reasoning", "other category"),
    ],
    ids=["too easy", "too hard or unknown", "category"],
)
def test_filters(
    made: Made, tmp_path: Path, settings: dict[str, Any], keeps: Callable[[float | None, str], bool], reason: str
) -> None:
    config = Virl39kProblems(source=str(made.folder), max_bad_share=0.2)
    everything = both_parts(config, tmp_path)
    filtered = both_parts(config.model_copy(update=settings), tmp_path)
    rates = rates_of(made)
    expected = {p.uid for part in everything for p in part.problems if keeps(rates[p.uid], p.category)}
    twice = {"Made-0"}  # the second row of this name is no duplicate where the first is left out
    assert {p.uid for part in filtered for p in part.problems} - twice == expected - twice
    assert filtered[0].statistics.left_out[reason] > 0


def rates_of(made: Made) -> dict[str, float | None]:
    """Pass rate by uid, -1 and the like being none."""
    rows = pq.ParquetFile(made.folder / "39Krelease.parquet").read(use_threads=False).to_pylist()
    written = {row["qid"]: row["PassRate_32BTrained"] for row in rows}
    return {uid: rate if rate is not None and rate >= 0 else None for uid, rate in written.items()}


def test_the_sentinel_of_the_other_pass_rate_is_unknown_and_not_hopeless(made: Made, tmp_path: Path) -> None:
    columns = Virl39kColumns(pass_rate="PassRate_7BBase")
    config = Virl39kProblems(source=str(made.folder), max_bad_share=0.2, columns=columns, min_pass_rate=0.1)
    found = load(config, str(tmp_path), seed=0)
    assert found.statistics.counts["pass rate"]["unknown"] > 0
    assert "pass rate outside" not in found.statistics.left_out


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_pass_rate": 0.9, "max_pass_rate": 0.1}, "min_pass_rate 0.9 is above max_pass_rate 0.1"),
        ({"columns": {"pass_rate": None}, "min_pass_rate": 0.1}, r"needs columns\.pass_rate"),
        ({"columns": {"category": None}, "categories": ("a",)}, r"categories needs columns\.category"),
    ],
)
def test_filters_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Virl39kProblems(**settings)


# --- where it comes from ----------------------------------------------------------------------------------------------


def test_the_hub_id_is_its_files(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def fetched(name: str, **options: Any) -> str:
        asked.append((name, options))
        return str(made.folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetched)
    found = load(Virl39kProblems(max_bad_share=0.2), str(tmp_path), seed=0)
    assert found.problems and {row.source for row in found.dropped} == {"TIGER-Lab/ViRL39K"}
    ((name, options),) = asked
    assert name == "TIGER-Lab/ViRL39K" and options["repo_type"] == "dataset"
    assert "images.zip" in options["allow_patterns"]


def test_without_a_hub_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(BadSource, match=r"^TIGER-Lab/ViRL39K is no file or folder here.*download it") as caught:
        load(Virl39kProblems(), str(tmp_path), seed=0)
    assert "\n" not in str(caught.value)


def test_an_archive_that_is_none_or_broken_stops_the_run(tmp_path: Path) -> None:
    made = Made(tmp_path / "data", rows=120, zipped=True)
    archive = made.folder / "images.zip"
    config = Virl39kProblems(source=str(made.folder), max_bad_share=1)
    data = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as opened:
        spoiled = opened.infolist()[40]
    start = spoiled.header_offset + 30 + len(spoiled.filename)
    data[start : start + 20] = b"\0" * 20
    archive.write_bytes(data)
    with pytest.raises(BadSource, match=rf"images\.zip is corrupt at {spoiled.filename}.*fetch it again"):
        load(config, str(tmp_path), seed=0)
    archive.write_bytes(data[:1000])
    with pytest.raises(BadSource, match=r"images\.zip is no zip file.*fetch it again"):
        load(config, str(tmp_path), seed=0)


def test_images_that_nobody_fetched_stop_the_run(tmp_path: Path) -> None:
    made = Made(tmp_path / "data", rows=120, zipped=True)
    (made.folder / "images.zip").unlink()
    with pytest.raises(TooManyBadRows, match=r"missing image \d+.*max_bad_share"):
        load(Virl39kProblems(source=str(made.folder)), str(tmp_path), seed=0)


def test_the_made_schema_is_the_published_one() -> None:
    columns = Virl39kColumns().model_dump(exclude_none=True).values()
    assert set(columns) | {"PassRate_7BBase"} == set(SCHEMA.names)


# --- overlaps ---------------------------------------------------------------------------------------------------------


def test_overlaps_are_listed_and_dropped_or_kept(tmp_path: Path) -> None:
    made = Made(tmp_path / "data", rows=160, overlapping=True)
    questions = BENCHMARKS["logicvista"].read(benchmark(tmp_path / "logicvista"), str(tmp_path)).questions
    marks = list(fingerprints("logicvista", questions, str(tmp_path)))
    config = Virl39kProblems(source=str(made.folder), max_bad_share=0.2)
    dropped = both_parts(config, tmp_path, marks)
    kept = both_parts(config.model_copy(update={"overlapping": "keep"}), tmp_path, marks)
    for found in (*dropped, *kept):
        assert Counter(overlap.by for overlap in found.overlaps) == made.overlaps
        assert {(o.benchmark, o.question) for o in found.overlaps} == {("logicvista", "0"), ("logicvista", "3")}
    taken = {overlap.uid for overlap in dropped[0].overlaps}
    assert {p.uid for part in kept for p in part.problems} - {p.uid for part in dropped for p in part.problems} == taken
    reported = [row for row in dropped[0].dropped if row.reason == "overlaps with a benchmark"]
    assert {row.row for row in reported} == {overlap.row for overlap in dropped[0].overlaps}
    assert all("logicvista" in row.detail and row.deliberate for row in reported)
