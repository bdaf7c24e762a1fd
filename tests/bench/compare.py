"""`make bench`: where the time goes, and this pipeline beside a plain online TRL loop.

Three programs on the same models, problems, recipe and number of rollouts, each in a process of its own, in turns:
  pipeline  the flow: Prefect, MLflow, artifacts, everything
  library   the same racro functions in a bare loop: what the computation alone costs
  online    TRL's GRPOTrainer as its documentation uses it: generate, score in a reward function, update
Orchestration is what the pipeline's iterations cost above the library's. Not a test: nothing here fails on a time.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PARTS = {"caption": "caption", "reward-answer": "rewards", "compose": "rewards", "update": "update"}
"""Part of an iteration by stage."""
RECIPE = "racro/recipes/embedded.yaml"
VARIANTS = ("pipeline", "library", "online")


def recipe(iterations: int, seed: int) -> Any:
    """The embedded recipe, evaluated at start and end only."""
    from racro.config import loading

    return loading.load(RECIPE, [f"iterations={iterations}", f"seed={seed}", f"evaluation.every={iterations}"])


def pipeline(iterations: int, seed: int, place: Path) -> dict[str, Any]:
    """The flow as users run it, with timers around artifacts and MLflow."""
    from flows.station import local

    home = local.settle(place / "home")
    spent: dict[str, float] = defaultdict(float)
    with local.prefect_server(home):
        from flows import training
        from racro.schema import Policy
        from racro.storage import artifacts
        from tasks.recording import report
        from tasks.running.stages import Stages

        _time(spent, "artifacts", artifacts, ("write_table", "write_record", "read_record"))
        _time(spent, "artifacts", artifacts, ("read_table",), generator=True)
        _time(spent, "MLflow", report, ("log_iteration",))
        begins: list[float] = []
        ends: list[float] = []
        stage_wall: dict[str, float] = defaultdict(float)
        run = Stages.run

        def timed(self: Any, task: Any, run_name: str, returns: Any, **inputs: Any) -> Any:
            start = time.monotonic()
            if task.name == "caption":
                begins.append(start)
                if len(begins) == 1:
                    spent.clear()
            handle = run(self, task, run_name, returns, **inputs)
            if part := PARTS.get(task.name):
                stage_wall[part] += time.monotonic() - start
                stage_wall[f"{part} body"] += self.record(handle).seconds
            if isinstance(handle, Policy):
                ends.append(time.monotonic())
            return handle

        Stages.run = timed  # type: ignore[method-assign]
        start = time.monotonic()
        summary = training.train(recipe(iterations, seed), run="bench", root=str(place / "runs"))
        wall = time.monotonic() - start
    # An iteration ends where the next begins; the last one with its update.
    walls = [b - a for a, b in zip(begins, [*begins[1:], ends[-1]], strict=True)]
    return {
        "iterations": walls,
        "wall": wall,
        "accuracy": summary.final.accuracy,
        "stderr": summary.final.stderr,
        "base": summary.base.accuracy,
        "stages": {name: seconds / iterations for name, seconds in stage_wall.items()},
        "artifacts": spent["artifacts"] / iterations,
        "MLflow": spent["MLflow"] / iterations,
    }


def library(iterations: int, seed: int, place: Path) -> dict[str, Any]:
    """The computation alone: no Prefect, no MLflow, no parquet."""
    from flows.station import local

    local.settle(place / "home")
    from racro.data import problems
    from racro.engines import opening as engines
    from racro.models.folders import EMBEDDED
    from racro.rewards import composition
    from racro.rewards.answer import Answer
    from racro.rewards.protocol import Case, Means, rows
    from racro.rollouts import captioner
    from racro.training.planning import plan
    from racro.training.trainer import Trainer, Training

    r = recipe(iterations, seed)
    initial, policy = EMBEDDED / "captioner", EMBEDDED / "captioner"
    folder = str(place / "problems")
    pool = problems.load(r.problems, folder, seed).problems
    by_uid = {problem.uid: problem for problem in pool}
    answering = engines.open_reasoner(r.reasoner, str(EMBEDDED / "reasoner"), r.runtime)
    walls, parts, step = [], defaultdict(float), 0
    start = time.monotonic()
    trainer: Trainer | None = None
    for k in range(iterations):
        clock = [time.monotonic()]
        captioning = engines.open_captioner(r.captioner, str(policy), r.runtime)
        chosen = captioner.select(pool, r.rollout.problems, seed, k)
        made = list(captioner.caption(chosen, folder, str(k), captioning, r.rollout, seed, k, 1e9))
        rollouts = captioner.in_order(made, chosen)
        clock.append(time.monotonic())
        cases = [Case(by_uid[rollout.uid], rollout) for rollout in rollouts]
        means = Means(seed=seed, iteration=k, deadline=1e9, reasoner=answering, reasoner_settings=r.reasoner)
        table = rows(cases, Answer(r.rewards[0]).score(cases, means))
        scored = composition.compose(rollouts, [table], composition.terms(r.rewards))
        clock.append(time.monotonic())
        work = plan(scored, by_uid, str(k), r.update.mini_batch)
        after = place / f"policy-{k}"
        training = Training(initial, r.captioner, r.rollout.temperature, r.update, r.runtime, seed)
        trainer = trainer or Trainer(training, None)
        trainer.update(work, folder, step)
        trainer.export(after)
        policy, step = after, step + work.steps
        clock.append(time.monotonic())
        walls.append(clock[-1] - clock[0])
        for name, (a, b) in zip(("caption", "rewards", "update"), itertools.pairwise(clock), strict=True):
            parts[name] += (b - a) / iterations
    wall = time.monotonic() - start
    return {"iterations": walls, "wall": wall, "stages": dict(parts)} | _accuracy(r, policy, place)


def online(iterations: int, seed: int, place: Path) -> dict[str, Any]:
    """TRL's own loop: on-policy generation by `generate`, the reasoner inside the reward function."""
    from flows.station import local

    local.settle(place / "home")
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, PrinterCallback, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from racro import grading, prompts
    from racro.data import problems
    from racro.data.images import open_image
    from racro.models.folders import EMBEDDED, load_processor, load_tokenizer
    from racro.rollouts import captioner
    from racro.schema import Gold

    r = recipe(iterations, seed)
    folder = str(place / "problems")
    pool = problems.load(r.problems, folder, seed).problems
    chosen = [p for k in range(iterations) for p in captioner.select(pool, r.rollout.problems, seed, k)]
    reasoner = AutoModelForCausalLM.from_pretrained(EMBEDDED / "reasoner", dtype=torch.float32).eval()
    tokenizer = load_tokenizer(EMBEDDED / "reasoner")

    def reward(prompts: Any, completions: Any, index: list[int], **_: Any) -> list[float]:
        texts = []
        for completion, i in zip(completions, index, strict=True):
            messages = prompts_of(chosen[i].question, completion[0]["content"])
            texts.append(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        answers: list[str] = []
        for at in range(0, len(texts), r.runtime.reason_batch):
            batch = tokenizer(texts[at : at + r.runtime.reason_batch], padding=True, return_tensors="pt")
            with torch.inference_mode():
                ids = reasoner.generate(
                    input_ids=batch["input_ids"],
                    attention_mask=batch["attention_mask"],
                    max_new_tokens=r.reasoner.max_tokens,
                    do_sample=False,
                )
            answers += tokenizer.batch_decode(ids[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        gold = [chosen[i] for i in index]
        return [
            float(grading.grade(a, "stop", Gold.of(p)).verdict == "correct") for a, p in zip(answers, gold, strict=True)
        ]

    def prompts_of(question: str, caption: str) -> list[dict[str, str]]:
        messages = prompts.reasoner_messages(question, caption)
        return [{"role": m["role"], "content": prompts.plain_text(m)} for m in messages]

    rows = Dataset.from_dict({"index": list(range(len(chosen)))})
    rows.set_transform(
        lambda batch: {
            "index": batch["index"],
            "prompt": [prompts.caption_messages(chosen[i].question, len(chosen[i].images)) for i in batch["index"]],
            "images": [[open_image(ref, folder) for ref in chosen[i].images] for i in batch["index"]],
        }
    )
    steps = r.rollout.problems // r.update.mini_batch
    arguments = GRPOConfig(
        output_dir=str(place / "online"),
        per_device_train_batch_size=r.update.mini_batch * r.rollout.group_size,
        gradient_accumulation_steps=1,
        steps_per_generation=steps,
        max_steps=steps * iterations,
        num_generations=r.rollout.group_size,
        max_completion_length=r.rollout.max_tokens,
        learning_rate=r.update.learning_rate,
        lr_scheduler_type="constant",
        beta=r.update.beta,
        epsilon=r.update.clip_low,
        epsilon_high=r.update.clip_high,
        loss_type="dapo",
        temperature=r.rollout.temperature,
        top_k=0,
        weight_decay=r.update.weight_decay,
        max_grad_norm=r.update.max_grad_norm,
        shuffle_dataset=False,
        seed=seed,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        gradient_checkpointing=False,
        disable_tqdm=True,
        bf16=False,
        dataloader_pin_memory=False,
    )
    marks: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            marks.append(time.monotonic())

    trainer = GRPOTrainer(
        model=str(EMBEDDED / "captioner"),
        args=arguments,
        processing_class=load_processor(EMBEDDED / "captioner"),
        train_dataset=rows,
        reward_funcs=reward,
        callbacks=[Clock()],
    )
    trainer.remove_callback(PrinterCallback)
    start = time.monotonic()
    trainer.train()
    wall = time.monotonic() - start
    policy = place / "online-policy"
    trainer.save_model(str(policy))
    ends = [start, *marks[steps - 1 :: steps]]
    walls = [b - a for a, b in itertools.pairwise(ends)]
    return {"iterations": walls, "wall": wall} | _accuracy(r, policy, place)


def _accuracy(r: Any, policy: Path, place: Path) -> dict[str, float]:
    from racro.data import problems
    from racro.engines import opening as engines
    from racro.engines.protocol import Sampling
    from racro.evaluation import heldout, modes, results
    from racro.models.folders import EMBEDDED
    from racro.prompts import caption_messages
    from racro.schema import Share, Verdict

    folder = str(place / "heldout")
    pool = problems.load(r.problems, folder, r.seed, r.evaluation.problems).problems
    questions = [heldout.heldout_question(problem) for problem in pool]
    eyes = engines.open_captioner(r.captioner, str(policy), r.runtime)
    mind = engines.open_reasoner(r.reasoner, str(EMBEDDED / "reasoner"), r.runtime)
    written = modes.captioner_outputs(questions, folder, eyes, caption_messages, r.rollout.max_tokens, 1e9)
    captions = modes.in_order(written, questions)
    sampling = Sampling(temperature=0.0, max_tokens=r.reasoner.max_tokens)
    answers = list(modes.answer("caption", questions, captions, [], mind, sampling, r.seed))
    graded = results.results(questions, "caption", "eyes", "mind", captions, [], answers)
    accuracy = Share.of(row.verdict is Verdict.CORRECT for row in graded)
    assert accuracy is not None
    return {"accuracy": accuracy.value, "stderr": accuracy.stderr}


def _time(spent: dict[str, float], name: str, module: Any, functions: tuple[str, ...], generator: bool = False) -> None:
    """Wrap functions of a module so that the seconds in them are added up."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.monotonic()
            result = list(function(*args, **kwargs)) if generator else function(*args, **kwargs)
            spent[name] += time.monotonic() - start
            return iter(result) if generator else result

        return timed

    for function in functions:
        setattr(module, function, wrap(getattr(module, function)))


@contextlib.contextmanager
def _place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="racro-bench-") as folder:
        yield Path(folder)


def main() -> None:
    """Run the variants in turns and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--variant", choices=VARIANTS, help="run one and print JSON (used by this program itself)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.variant:
        with _place() as place:
            result = globals()[options.variant](options.iterations, options.seed, place)
        print(json.dumps(result))
        return
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in VARIANTS}
    for seed in range(options.rounds):
        for variant in VARIANTS:
            command = [sys.executable, "-m", "tests.bench.compare", "--variant", variant]
            command += ["--iterations", str(options.iterations), "--seed", str(seed)]
            done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
            if done.returncode:
                sys.exit(done.stderr[-4000:])
            results[variant].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"{variant} (seed {seed}): {results[variant][-1]['wall']:.0f} s", file=sys.stderr, flush=True)
    _print(results)


def _print(results: dict[str, list[dict[str, Any]]]) -> None:
    # The first iteration warms up allocators and imports; medians over the others.
    typical = {
        name: statistics.median(w for run in runs for w in run["iterations"][1:]) for name, runs in results.items()
    }
    print("\n| 1,024 captions per iteration | s / iteration | ratio to online TRL | held-out accuracy by seed |")
    print("|---|---|---|---|")
    for name, runs in results.items():
        reached = ", ".join(f"{100 * run['accuracy']:.1f} ± {100 * run['stderr']:.1f} %" for run in runs)
        print(f"| {name} | {typical[name]:.2f} | {typical[name] / typical['online']:.2f} | {reached} |")
    overhead = typical["pipeline"] - typical["library"]
    share = 100 * overhead / typical["pipeline"]
    print(f"\npipeline above library: {overhead:.2f} s = {share:.0f} % of an iteration\n")
    run = results["pipeline"][0]
    wall = statistics.fmean(run["iterations"])
    rows = {name: run["stages"][f"{name} body"] for name in ("caption", "rewards", "update")}
    rows |= {"of these, artifacts": run["artifacts"], "MLflow": run["MLflow"]}
    rows["Prefect"] = sum(run["stages"][n] - run["stages"][f"{n} body"] for n in ("caption", "rewards", "update"))
    print("| where an iteration's time goes | s | share |\n|---|---|---|")
    for name, seconds in rows.items():
        print(f"| {name} | {seconds:.3f} | {100 * seconds / wall:.1f} % |")


if __name__ == "__main__":
    main()
