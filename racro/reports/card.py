"""The model card of an exported captioner: what it is, how good with which error, how to use it, how it was made.

Markdown with the header that the Hugging Face hub reads. Plain data in, text out. Called by `flows.cli.exporting`.
"""

from __future__ import annotations

from importlib.metadata import version

from jinja2 import Environment, PackageLoader, StrictUndefined

from racro.config import Recipe, loading
from racro.identity import recipe_digest
from racro.models.adapters import Adapter
from racro.prompts import CAPTION_SYSTEM, CAPTION_USER, REASONER_TRAINING_USER
from racro.summary import Summary


def render(digest: str, folder: str, adapter: Adapter | None, summary: Summary | None, recipe: Recipe | None) -> str:
    """The card.

    digest: of the weights. folder: where its examples load them from. summary and recipe: of the training that ended
    with them, if it is known.
    """
    before, after = CAPTION_USER.split("{q}")
    model = recipe.captioner.model if recipe else None
    embedded = (adapter.base if adapter else model) == "embedded"
    environment = Environment(
        loader=PackageLoader("racro.reports", "."), undefined=StrictUndefined, trim_blocks=True, autoescape=False
    )
    return environment.get_template("card.md.j2").render(
        title=f"Captioner {digest[:8]}",
        digest=digest,
        folder=folder,
        adapter=adapter,
        base_name=None if embedded or not model or "/" not in model or model.startswith((".", "/")) else model,
        summary=summary,
        data=_data(recipe),
        recipe=recipe,
        recipe_digest=recipe_digest(recipe) if recipe else None,
        settings=loading.dump(recipe).rstrip() if recipe else None,
        system=CAPTION_SYSTEM,
        before=before,
        after=after,
        max_tokens=recipe.rollout.max_tokens if recipe else 512,
        reasoner_prompt=REASONER_TRAINING_USER.replace("{{}}", "{}"),
        version=version("racro"),
        licence=_licence(model, recipe),
    )


def _data(recipe: Recipe | None) -> str:
    if recipe is None:
        return ""
    problems = recipe.problems
    return "the embedded world" if problems.type == "embedded" else f"`{getattr(problems, 'source', problems.type)}`"


def _licence(model: str | None, recipe: Recipe | None) -> str:
    """What is known of it. A licence of others cannot be found out here, and is not guessed."""
    if model == "embedded":
        return "The embedded models and problems are part of this project: Apache License 2.0."
    base = f"`{model}`" if model else "the initial captioner"
    data = _data(recipe) or "unknown"
    return f"That of {base} applies to these weights. The training data ({data}) have their own; see there."
