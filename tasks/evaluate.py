"""Stage evaluate: a policy's greedy captions of the held-out problems, answered by the reasoner, judged."""

from __future__ import annotations

from racro import config as recipes
from racro.evaluation import heldout as evaluation
from racro.prompts import CAPTION_DIGEST, REASONER_DIGEST
from racro.schema import Evaluation, FrozenModel, Judgement, Policy, Problem, ProblemTable
from racro.storage import artifacts
from racro.summary import Score
from tasks.running.engines import captioner_engine, reasoner_engine
from tasks.running.policies import Output, stage
from tasks.running.progress import Progress
from tasks.running.refusals import Refusals


class NothingEvaluated(RuntimeError):
    """Not one held-out problem got a verdict."""


@stage("evaluate", version=2, prompts=CAPTION_DIGEST + REASONER_DIGEST)
def evaluate(
    output: Output,
    problems: ProblemTable,
    policy: Policy,
    captioner: recipes.Captioner,
    caption_tokens: int,
    reasoner_model: FrozenModel,
    reasoner: recipes.Reasoner,
    temperature: float,
    top_p: float,
    seed: int,
    runtime: recipes.Runtime,
    root: str,
) -> Evaluation:
    """One judgement per problem. Raises NothingEvaluated."""
    progress, refused = Progress("evaluate", "items"), Refusals("judged")
    rows = list(
        evaluation.evaluate(
            list(artifacts.read_table(problems, Problem)),
            problems.uri,
            captioner_engine(captioner, policy, runtime),
            reasoner_engine(reasoner, reasoner_model, runtime),
            caption_tokens,
            reasoner.max_tokens,
            recipes.EvaluationSettings(temperature=temperature, top_p=top_p),
            seed,
            runtime.request_deadline,
            progress,
            refused=refused,
        )
    )
    progress.finish()
    metrics = evaluation.aggregate(rows)
    if metrics.accuracy is None:
        raise NothingEvaluated(
            f"none of {len(rows)} held-out problems got an answer in time; raise runtime.request_deadline, or look at "
            "the engines" + (f". Problem {refused}" if refused.requests else "")
        )
    output.shards = artifacts.write_table(output.folder, rows, Judgement)
    output.metrics = flat(metrics)
    return Evaluation(
        uri=output.folder, rows=len(rows), digest=artifacts.table_digest(output.shards), policy=policy.digest
    )


def flat(metrics: evaluation.EvaluationMetrics) -> dict[str, float]:
    """The metrics by dotless names, for records and MLflow. What was not measured is left out."""
    rates = {"accuracy": metrics.accuracy, "truthful": metrics.truthful}
    rates |= {"states_asked": metrics.states_asked, "leaks": metrics.leaks}
    rates |= {f"accuracy_{category}": rate for category, rate in metrics.by_category.items()}
    named = {name: rate for name, rate in rates.items() if rate is not None}
    return (
        {name: rate.value for name, rate in named.items()}
        | {f"{name}_stderr": rate.stderr for name, rate in named.items()}
        | {f"verdict_{verdict}": float(count) for verdict, count in metrics.verdicts.items()}
    )


def score_of(judged: Evaluation) -> Score:
    """The headline of an evaluation, from its rows."""
    metrics = evaluation.aggregate(list(artifacts.read_table(judged, Judgement)))
    if metrics.accuracy is None:
        raise NothingEvaluated(f"{judged.uri} holds no verdict")
    return Score(
        accuracy=metrics.accuracy.value,
        stderr=metrics.accuracy.stderr,
        n=metrics.accuracy.n,
        truthful=_value(metrics.truthful),
        states_asked=_value(metrics.states_asked),
        leaks=_value(metrics.leaks),
    )


def _value(rate: evaluation.Rate | None) -> float | None:
    return None if rate is None else rate.value
