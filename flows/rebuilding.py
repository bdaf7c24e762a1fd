"""Flow `rebuild`: the two embedded models from nothing. Composition only."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from tasks.rebuild import rebuild_captioner, rebuild_reasoner, record_recipe


@flow(name="rebuild embedded models", persist_result=False)
def rebuild(out: Path, steps_scale: float = 1.0) -> None:
    """Tokenizer, reasoner, captioner, and last the record of the recipe.

    out: folder for the models. steps_scale: shortens both trainings; the record then has another digest.
    """
    rebuild_reasoner(out, steps_scale)
    rebuild_captioner(out, steps_scale)
    record_recipe(out, steps_scale)
