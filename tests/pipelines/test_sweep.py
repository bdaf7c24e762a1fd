"""Sweeps: what is tried, who wins, who is stopped; and real sweeps, with children in processes of their own."""

from __future__ import annotations

import contextlib
import itertools
import re
import signal
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import psutil
import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import get_client

from flows import sweep_plan
from flows.cli import terminal
from racro.config import Recipe, loading
from racro.reports import sweep as sweep_report
from racro.storage import layout
from racro.storage.runs import NameTaken
from racro.summary import Summary
from racro.sweeps.axes import BadAxis, Grid, Optuna, Random, Sweep, parse_axes, propose
from racro.sweeps.ranking import Measured, Outcome, SweepSummary, Trial, hopeless, rank
from tasks.sweep import gpu_shares
from tests.conftest import EMBEDDED_RECIPE, TINY, nobody_works_in
from tests.support import forkserver, hostile
from tests.support.eventually import eventually

SMALL = (*TINY, "evaluation.every=1")


def tiny(*overrides: str) -> Recipe:
    return loading.load(EMBEDDED_RECIPE, [*SMALL, *overrides])


# --- points -----------------------------------------------------------------------------------------------------------


def test_a_grid_is_every_combination_in_the_order_of_the_axes() -> None:
    axes = parse_axes(("update.learning_rate=1e-4,5e-4", "rewards.0.truncated=wrong,unscored"), Grid())
    (points,) = propose(axes, Grid(), seed=0)
    assert points == [
        ('update.learning_rate="1e-4"', 'rewards.0.truncated="wrong"'),
        ('update.learning_rate="1e-4"', 'rewards.0.truncated="unscored"'),
        ('update.learning_rate="5e-4"', 'rewards.0.truncated="wrong"'),
        ('update.learning_rate="5e-4"', 'rewards.0.truncated="unscored"'),
    ]


def test_two_spellings_of_a_number_are_one_point() -> None:
    axes = parse_axes(("update.learning_rate=1e-3,0.001,0.002",), Grid())
    (points,) = propose(axes, Grid(), seed=0)
    assert [values for values, _ in sweep_plan.distinct(tiny(), axes, points)] == [
        {"update.learning_rate": 0.001},
        {"update.learning_rate": 0.002},
    ]


def test_an_axis_may_be_the_weight_of_a_reward() -> None:
    axes = parse_axes(("rewards.1.weight=0.05,0.1",), Grid())
    (points,) = propose(axes, Grid(), seed=0)
    found = sweep_plan.distinct(loading.load("rapid-7b"), axes, points)
    assert [values for values, _ in found] == [{"rewards.1.weight": 0.05}, {"rewards.1.weight": 0.1}]
    assert [[reward.weight for reward in changed.rewards] for _, changed in found] == [[1.0, 0.05], [1.0, 0.1]]


def test_random_points_are_seeded_distinct_in_range_and_logarithmic_over_a_decade() -> None:
    search = Random(points=60)
    axes = parse_axes(("update.learning_rate=1e-5..1e-3", "iterations=1..100", "update.beta=0.1..0.2"), search)
    (points,) = propose(axes, search, seed=3)
    assert [points] == list(propose(axes, search, seed=3))
    assert [points] != list(propose(axes, search, seed=4))
    drawn = [values for values, _ in sweep_plan.distinct(tiny(), axes, points)]
    assert len(drawn) == 60
    rates = [values["update.learning_rate"] for values in drawn]
    assert all(1e-5 <= rate <= 1e-3 for rate in rates)
    assert 15 < sum(rate < 1e-4 for rate in rates) < 45, "half of them below the middle of the logarithm"
    assert all(isinstance(values["iterations"], int) and 1 <= values["iterations"] <= 100 for values in drawn)
    assert all(0.1 <= values["update.beta"] <= 0.2 for values in drawn)


def test_fewer_random_points_where_there_are_not_so_many() -> None:
    axes = parse_axes(("iterations=1..3",), Random(points=10))
    ((*points,),) = propose(axes, Random(points=10), seed=0)
    assert sorted(points) == [("iterations=1",), ("iterations=2",), ("iterations=3",)]


def test_optuna_proposes_the_same_again_and_closes_in_on_what_was_good() -> None:
    search = Optuna(points=40)
    axes = parse_axes(("update.learning_rate=1e-6..1e-2", "rewards.0.truncated=wrong,unscored"), search)

    def run() -> list[float]:
        tried: list[float] = []
        proposals = propose(axes, search, seed=0)
        points = next(proposals)
        for batch in itertools.count():
            rates = [float(point[0].partition("=")[2]) for point in points]
            tried += rates
            scores = [None if batch == 0 and i == 0 else -abs(rate - 1e-3) for i, rate in enumerate(rates)]
            try:
                points = proposals.send(scores)
            except StopIteration:
                return tried
        raise AssertionError

    first = run()
    assert len(first) == 40
    assert run() == first
    late = first[-12:]
    assert sum(3e-4 < rate < 3e-3 for rate in late) >= 6, "a quarter of the range on a logarithmic scale"


@pytest.mark.parametrize(
    ("axis", "search", "says"),
    [
        ("update.lerning_rate=1", Grid(), "update.lerning_rate: unknown key; did you mean learning_rate?"),
        ("update.learning_rate=1e-3,-1", Grid(), "greater than or equal to 0, not -1"),
        ("update.learning_rate=fast", Grid(), "valid number"),
        ("update.learning_rate=-1..1", Random(points=2), "greater than or equal to 0, not -1"),
        ("update.learning_rate", Grid(), "write it as path=value,value"),
        ("update.learning_rate=", Grid(), "write it as path=value,value"),
        ("update.learning_rate=[1", Grid(), "not valid YAML"),
        ("update.learning_rate=1e-5..1e-3", Grid(), "needs --random N or --optuna N"),
        ("update.learning_rate=1e-3..1e-5", Optuna(points=2), "the smaller number first"),
        ("seed=0,1", Grid(), "use --seeds"),
        ("runtime.caption_batch=1,2", Grid(), "changes no result"),
        ("iterations.x=1", Grid(), "iterations is a value"),
        ("update.mini_batch=4,4096", Grid(), "larger than rollout.problems"),
    ],
)
def test_a_bad_axis_is_refused_in_one_line(axis: str, search: Grid | Random | Optuna, says: str) -> None:
    with pytest.raises((BadAxis, loading.BadRecipe)) as refused:
        sweep_plan.check(tiny(), Sweep.model_construct(axes=(axis,), search=search))
    assert says in str(refused.value)
    assert str(refused.value).startswith("--axis")
    assert "\n" not in str(refused.value)


def test_names_of_children_say_what_is_special_and_can_be_folders() -> None:
    assert sweep_plan.child_name("lr", {"update.learning_rate": 5e-4}, 1) == "lr-learning_rate_0.0005-seed_1"
    odd = [{"captioner.model": value} for value in ("a/b", "a_b", "a b")]
    names = {sweep_plan.child_name("s", values, 0) for values in odd}
    assert len(names) == 3
    many = {f"section.key{i}": i for i in range(30)}
    names |= {sweep_plan.child_name("s", many, 0)}
    assert all(len(name) <= sweep_plan.LONGEST for name in names)
    assert all(layout.run("root", name) for name in names)


# --- the rule and the ranking -----------------------------------------------------------------------------------------


def child(name: str, *accuracies: float, status: str = "finished", seconds: float = 1.0) -> Outcome:
    curve = [Measured(iteration=2 * k, accuracy=a, stderr=0.01, n=100) for k, a in enumerate(accuracies)]
    return Outcome.model_validate(
        {"child": name, "recipe_digest": "d", "status": status, "curve": curve, "seconds": seconds}
    )


def test_the_rule_stops_who_is_two_standard_errors_below_the_median_of_three_finished_siblings() -> None:
    finished = [child("a", 0.5, 0.7), child("b", 0.5, 0.8), child("c", 0.5, 0.9)]
    running = [child(f"r{i}", 0.5, 1.0, status="running") for i in range(5)]

    def at(accuracy: float, iteration: int = 2) -> Measured:
        return Measured(iteration=iteration, accuracy=accuracy, stderr=0.01, n=100)

    bar = 0.8 - 2 * 0.01 * 2**0.5
    assert hopeless(at(bar + 0.001), finished) is None
    assert "0.771" in str(hopeless(at(bar - 0.001), finished + running))
    assert hopeless(at(0.1), finished[:2] + running) is None, "two finished siblings are too few"
    assert hopeless(at(0.1, iteration=4), finished) is None, "nobody was measured there"


def test_the_ranking_has_means_with_errors_over_seeds_and_lets_no_lucky_rest_win() -> None:
    trials = [
        Trial(values={"x": 1}, children=(child("a", 0.1, 0.6), child("b", 0.1, 0.7, seconds=3))),
        Trial(values={"x": 2}, children=(child("c", 0.1, 0.99), child("d", 0.1, 0.2, status="stopped"))),
        Trial(values={"x": 3}, children=(child("e", 0.1, 0.8), child("f", 0.1, status="failed"))),
        Trial(values={"x": 4}, children=(child("g", status="failed"), child("h", 0.5, status="failed"))),
    ]
    ranking = rank(trials)
    assert [(s.rank, s.values["x"], s.seeds, s.n) for s in ranking] == [
        (1, 3, 1, 100),
        (2, 1, 2, 200),
        (3, 2, 2, 200),
        (None, 4, 0, 0),
    ]
    assert ranking[1].accuracy == pytest.approx(0.65)
    assert ranking[1].stderr == pytest.approx(0.05)
    assert ranking[1].seconds == 4.0
    assert ranking[0].stderr == 0.01, "of a single seed: over problems"
    assert [(s.finished, s.stopped, s.failed) for s in ranking] == [(1, 0, 1), (2, 0, 0), (1, 1, 0), (0, 0, 2)]


def test_seeds_that_agree_do_not_make_an_accuracy_certain() -> None:
    [same] = rank([Trial(values={"x": 1}, children=(child("a", 0.1, 0.75), child("b", 0.2, 0.75)))])
    assert (same.accuracy, same.stderr, same.seeds) == (0.75, 0.01, 2)


def test_the_page_needs_nothing_but_itself_also_when_all_failed() -> None:
    for trials in (
        [Trial(values={"a.x": 1e-4, "a.y": "<b>"}, children=(child("a", 0.1, 0.6),))],
        [Trial(values={"a.x": None, "a.y": True}, children=(child("a", status="failed"),))],
    ):
        children = tuple(c for trial in trials for c in trial.children)
        page = sweep_report.render(
            SweepSummary(
                run="s",
                recipe_digest="d" * 64,
                seed=0,
                plan=Sweep(axes=("a.x=1",)),
                ranking=rank(trials),
                children=children,
                started=1,
                stages={},
                seconds=1.0,
                prefect_flow_run_id="p",
                mlflow_run_id="m",
            )
        )
        assert not re.search(r"(src|href)=\"http|@import|<script", page)
        assert "<b></b>" not in page


@pytest.mark.parametrize(("points", "says"), [(1, False), (2, True)])
def test_fewer_points_than_asked_for_are_said(points: int, says: bool, capsys: pytest.CaptureFixture[str]) -> None:
    summary = SweepSummary(
        run="s",
        recipe_digest="d" * 64,
        seed=0,
        plan=Sweep(axes=("iterations=1..1",), search=Random(points=points)),
        ranking=rank([Trial(values={"iterations": 1}, children=(child("a", 0.1, 0.6),))]),
        children=(child("a", 0.1, 0.6),),
        started=1,
        stages={},
        seconds=1.0,
        prefect_flow_run_id="p",
        mlflow_run_id="m",
    )
    terminal.show_sweep(summary, "report.html")
    line = "2 points were asked for, and 1 of those that were drawn are distinct"
    assert (line in " ".join(capsys.readouterr().out.split()), line in sweep_report.render(summary)) == (says, says)


def test_gpus_are_dealt_out_among_children_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4,5,7")
    assert [share["CUDA_VISIBLE_DEVICES"] for share in gpu_shares(2)] == ["3,4", "5,7"]
    assert gpu_shares(5) == [{}] * 5, "too few: all see all"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert gpu_shares(2) == [{}, {}]


# --- real sweeps ------------------------------------------------------------------------------------------------------

PLAN = Sweep(axes=("update.learning_rate=1e-4,2.5e-4,5e-4,1e-3,0.1",), parallel=2)
"""The last rate destroys the policy. It begins when three others have finished."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="module")
def rates(root: str, prefect_server: str) -> SweepSummary:
    from flows.sweep import sweep

    with forkserver.children():
        return sweep(tiny(), PLAN, run="rates", root=root)


def test_children_are_runs_and_what_they_share_ran_once(rates: SweepSummary, root: str) -> None:
    assert [c.status for c in rates.children] == ["finished"] * 4 + ["stopped"], [c.note for c in rates.children]
    assert rates.started == 5
    finished = rates.children[:4]
    summaries = [Summary.model_validate_json(Path(layout.summary(root, c.child)).read_bytes()) for c in finished]
    assert len({s.policy.digest for s in summaries}) == 4
    # Prepared, compared and captioned once for the first iteration, whoever came first.
    counts = {name: (total.executed, total.cached) for name, total in rates.stages.items()}
    assert counts["prepare"] == (2, 6)
    assert counts["parity"] == (1, 3)
    assert counts["describe"] == counts["answer"] == counts["grade"] == counts["aggregate"] == (1 + 8, 3)
    assert counts["caption"] == counts["reward-answer"] == counts["compose"] == (1 + 4, 3)
    assert counts["update"] == (8, 0)


def test_the_ranking_is_what_the_children_reached(rates: SweepSummary, root: str) -> None:
    assert SweepSummary.model_validate_json(Path(layout.summary(root, "rates")).read_bytes()) == rates
    last = rates.ranking[-1]
    assert last.values == {"update.learning_rate": 0.1}
    assert (last.stopped, last.finished, last.seeds) == (1, 0, 1)
    best = rates.ranking[0]
    [reached] = [c.curve[-1].accuracy for c in rates.children if c.child in best.children]
    assert best.accuracy == reached == max(c.curve[-1].accuracy for c in rates.children)
    assert best.n == 32
    page = Path(layout.report(root, "rates")).read_text()
    assert all(c.child in page for c in rates.children)
    assert page.count("<svg") == 2


def test_a_hopeless_child_was_stopped_not_failed_in_every_view(rates: SweepSummary) -> None:
    stopped = rates.children[-1]
    assert re.match(r"stopped at iteration 1: accuracy 0\.\d+ is more than 2 standard errors", stopped.note)
    assert [m.iteration for m in stopped.curve] == [0, 1]
    run = MlflowClient().get_run(stopped.mlflow_run_id)
    assert run.info.status == "KILLED"
    assert run.data.tags["racro.stopped"] == stopped.note
    with get_client(sync_client=True) as prefect:
        state = prefect.read_flow_run(UUID(run.data.tags["prefect.flow_run_id"])).state
    assert state is not None and state.is_cancelled()
    assert state.message == stopped.note


def test_mlflow_has_one_parent_with_nested_runs_and_the_ranking(rates: SweepSummary) -> None:
    client = MlflowClient()
    parent = client.get_run(rates.mlflow_run_id)
    assert parent.info.status == "FINISHED"
    nested = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{rates.mlflow_run_id}'", max_results=50
    )
    assert {run.info.run_id for run in nested} == {c.mlflow_run_id for c in rates.children}
    assert {run.info.run_name for run in nested} == {c.child for c in rates.children}
    table = client.load_table(parent.info.experiment_id, "ranking.json", [rates.mlflow_run_id])
    assert list(table["update.learning_rate"]) == [s.values["update.learning_rate"] for s in rates.ranking]
    assert parent.data.metrics["sweep/best_accuracy"] == rates.ranking[0].accuracy


def test_the_same_sweep_again_starts_nobody(rates: SweepSummary, root: str) -> None:
    from flows.sweep import sweep

    again = sweep(tiny(), PLAN, run="rates", root=root)
    assert again.started == 0
    assert (again.ranking, again.children, again.mlflow_run_id) == (rates.ranking, rates.children, rates.mlflow_run_id)


def test_other_points_are_another_sweep_and_do_not_take_its_name(rates: SweepSummary, root: str) -> None:
    from flows.sweep import sweep

    with pytest.raises(NameTaken, match="--run rates: holds a sweep of something else"):
        sweep(tiny(), Sweep(axes=("update.beta=0.1,0.2",)), run="rates", root=root)
    assert SweepSummary.model_validate_json(Path(layout.summary(root, "rates")).read_bytes()).run == rates.run


def test_killed_in_the_middle_it_goes_on_and_tries_only_what_failed_or_was_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder with packages that have the names of ours: neither servers nor children import those."""
    for name in ("PREFECT_API_URL", "PREFECT_HOME", "MLFLOW_TRACKING_URI", "RACRO_HOME", "PYTHONSAFEPATH"):
        monkeypatch.delenv(name, raising=False)
    hostile.fill(tmp_path)
    command = [sys.executable, "-P", "-m", "flows.cli.main", "sweep", EMBEDDED_RECIPE, "--run", "killed"]
    command += ["--axis", "update.max_logprob_gap=1.0e-3,1.0e-12,1.0e-2"]
    command += [
        argument for override in (*SMALL, "iterations=1", "evaluation.problems=4") for argument in ("--set", override)
    ]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert eventually(lambda: process.poll() is not None or _works(tmp_path, THIRD), 900)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert nobody_works_in(tmp_path), "a process of the killed sweep lives on"
    finished, failed, cut_off = _children(tmp_path)
    assert [outcome.status for outcome in (finished, failed, cut_off)] == ["finished", "failed", "running"]

    command = [str(forkserver.shared().racro), *command[4:]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1000)
    assert done.returncode == 1, "a child failed"
    assert "children 3: 2 started now, 1 had ended before" in done.stdout, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("failed ")]
    assert lines == [f"failed   {failed.child}: {failed.note}"]
    assert "1e-12" in failed.note
    assert "The same command tries the failed ones again." in done.stdout
    again, _, third = _children(tmp_path)
    assert again == finished
    assert third.status == "finished"
    assert third.stages["caption"].executed == 0, "the bound of the gap changes no caption"
    summary = SweepSummary.model_validate_json(Path(layout.summary(str(tmp_path / "runs"), "killed")).read_bytes())
    assert [(s.finished, s.failed, s.rank) for s in summary.ranking] == [(1, 0, 1), (1, 0, 2), (0, 1, None)]
    assert nobody_works_in(tmp_path)


ORDER = FIRST, SECOND, THIRD = tuple(f"killed-max_logprob_gap_{gap}-seed_0" for gap in ("0.001", "1e-12", "0.01"))
"""The children of the sweep `killed`, in the order in which they run."""


def _children(folder: Path) -> list[Outcome]:
    """Their outcomes."""
    files = {file.stem: file for file in (folder / "runs" / "killed" / "children").glob("*.json")}
    return [Outcome.model_validate_json(files[name].read_bytes()) for name in ORDER if name in files]


def _works(folder: Path, child: str) -> bool:
    """Does the process of that child work, so that its outcome is written?"""
    if len(_children(folder)) <= ORDER.index(child):
        return False
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = " ".join(process.cmdline())
            if process.cwd() == str(folder) and "flows.sweep_child" in words and child in words:
                return True
    return False
