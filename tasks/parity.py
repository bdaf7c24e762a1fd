"""Stage parity: engine and trainer compared before the first iteration. Thin: `racro.training.parity` does it."""

from __future__ import annotations

from prefect import get_run_logger

from racro import config as recipes
from racro.identity import digest
from racro.prompts import CAPTION_DIGEST
from racro.schema import Parity, Policy, Problem, ProblemTable
from racro.storage import artifacts
from tasks.running.downloads import on_disk
from tasks.running.engines import captioner_engine
from tasks.running.policies import Output, stage

PROBLEMS = 4
"""Problems compared; those with the most images, so that more than one image is among them where there are any."""


@stage("parity", version=1, prompts=CAPTION_DIGEST)
def parity(
    output: Output,
    problems: ProblemTable,
    policy: Policy,
    captioner: recipes.Captioner,
    rollout: recipes.RolloutSettings,
    max_gap: float,
    seed: int,
    runtime: recipes.Runtime,
    root: str,
) -> Parity:
    """Raises racro.training.parity.ParityBroken, which says what differs."""
    from racro.training.parity import check  # torch, only where the stage runs

    pool = sorted(artifacts.read_table(problems, Problem), key=lambda problem: -len(problem.images))
    chosen = [*pool[: PROBLEMS // 2], *pool[-(PROBLEMS - PROBLEMS // 2) :]]
    with on_disk(policy, runtime) as folder:
        found = check(
            list({problem.uid: problem for problem in chosen}.values()),
            problems.uri,
            policy.digest,
            folder,
            captioner_engine(captioner, policy, runtime),
            captioner,
            rollout,
            max_gap,
            seed,
            runtime.device,
            runtime.request_deadline,
        )
    get_run_logger().info(
        "engine and trainer agree: %d captions, %d tokens, log-prob gap %.2g (mean), %.2g (largest)",
        found.captions,
        found.tokens,
        found.gap_mean,
        found.gap_max,
    )
    output.metrics = {"tokens": found.tokens, "logprob_gap": found.gap_mean, "logprob_gap_max": found.gap_max}
    return Parity(uri=output.folder, rows=found.captions, digest=digest(output.metrics))
