"""Descriptions of runs in MLflow, as Markdown: what a run is, and what came of it."""

from __future__ import annotations

from racro.config import Recipe
from racro.config.settings import changes, settings
from racro.summary import Summary
from tasks.recording import addresses
from tasks.recording.made import Made

NOTE = "mlflow.note.content"
"""Tag that holds a run's description."""
SHOWN = 24
"""Settings in a description."""


def training(made: Made, summary: Summary | None = None) -> str:
    """Of a training, while it lasts or after it."""
    recipe = made.recipe
    lines = [
        f"Training of the captioner `{recipe.captioner.model}` for the frozen reasoner `{recipe.reasoner.model}`: "
        f"{recipe.rounds} iterations, seed {recipe.seed}, {made.judge.heldout.rows:,} held-out problems.",
    ]
    if summary is not None:
        before, after = summary.base.share, summary.final.share
        lines.append(f"Held-out accuracy: **{before.percent} % → {after.percent} %** (n = {after.n:,}).")
        lines += [f"- alarm: {alarm.line}" for alarm in summary.alarms]
    links = addresses.of_run(made.mlflow_run, made.root, made.name)
    lines.append(" · ".join(f"[{label}]({address})" for label, address in links.items() if label != "MLflow run"))
    return "\n\n".join([*lines, differing(recipe)])


def differing(recipe: Recipe) -> str:
    """What was changed in the closest shipped recipe, or else what is not at its default, as a table."""
    closest, found = changes(recipe)
    if closest and not found:
        return f"The recipe `{closest}` as it ships."
    found = found or [setting for setting in settings(recipe) if setting.differs]
    rows = [f"| {one.key} | {_cell(one.value)} | {_cell(one.default)} |" for one in found[:SHOWN]]
    more = [f"And {len(found) - SHOWN} more in recipe.yaml."] if len(found) > SHOWN else []
    return "\n".join(
        [f"| setting | value | {f'in `{closest}`' if closest else 'default'} |", "|---|---|---|", *rows, "", *more]
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")[:120]
