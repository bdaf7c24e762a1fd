"""The commands `racro recipe list`, `show`, `schema` and `explain`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from flows.cli.completion import complete_key
from flows.cli.options import Json, Overrides, RecipeName
from racro.config import loading

app = typer.Typer(no_args_is_help=True, help="The shipped recipes, and the keys of all recipes.")


@app.command("list")
def listed(as_json: Json = False) -> None:
    """List the shipped recipes: what each is, its models, and how many captions its training samples."""
    from racro.config.shipped import shipped

    found = shipped()
    if as_json:
        rows = [{"name": one.name, "text": one.text, "models": one.models, "captions": one.captions} for one in found]
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    from flows.cli import listing

    listing.show_recipes(found)


@app.command()
def show(recipe: RecipeName, overrides: Overrides = None, as_json: Json = False) -> None:
    """Print a recipe with all its keys: what differs from the defaults, then the rest as comments.

    What is printed is a recipe itself: `racro recipe show embedded > mine.yaml`.
    """
    from racro.config import differences

    loaded = loading.load(recipe, overrides or [])
    print(loaded.model_dump_json(indent=1) if as_json else differences.text(loaded), end="\n" if as_json else "")


@app.command()
def schema() -> None:
    """Print the JSON schema of recipes, by which editors complete and check them."""
    from racro.config import Recipe

    content = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Recipe.model_json_schema()
    print(json.dumps(content, indent=1, ensure_ascii=False))


@app.command()
def explain(
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="update.learning_rate, or its last part.", autocompletion=complete_key)
    ],
) -> None:
    """Say what a key of a recipe is: type, default, allowed values, meaning, and whether it changes the result."""
    from flows.cli import listing
    from racro.config import keys

    listing.show_keys(keys.explain(key))
