"""The command `racro export`: a captioner as a Hugging Face folder with a model card, on disk or on the hub too."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from flows.cli import running
from flows.cli.options import Root
from flows.saying import say
from racro.config import DType, Recipe, Runtime, loading
from racro.errors import BadInput
from racro.storage import layout

if TYPE_CHECKING:
    from racro.summary import Summary


class CannotPush(BadInput):
    """The hub refuses the folder, or is out of reach."""


def export(
    policy: Annotated[
        str, typer.Argument(metavar="POLICY", help="A run, `champion`, `initial`, a folder or URI, or a digest.")
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to write it; new or empty.")],
    merge: Annotated[bool, typer.Option("--merge", help="Put an adapter into its model's weights.")] = False,
    dtype: Annotated[
        str | None, typer.Option(metavar="TYPE", help="bfloat16, float16 or float32; as they are without it.")
    ] = None,
    push: Annotated[
        str | None, typer.Option(metavar="REPO", help="Upload it to this repository of the Hugging Face hub as well.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="A new repository is private.")] = False,
    recipe: Annotated[
        str | None, typer.Option(metavar="RECIPE", help="Whose `champion` or `initial` captioner is meant.")
    ] = None,
    root: Root = "runs",
) -> None:
    """Write a captioner as a folder that transformers, PEFT and vLLM load, with a model card."""
    if dtype is not None and dtype not in get_args(DType):
        raise BadInput(f"--dtype {dtype}: give {', '.join(get_args(DType))}")
    kind = cast(DType | None, dtype)
    given = running.load(recipe, None) if recipe else None
    running.settle()
    say(f"looking for the captioner {policy}")
    from racro.models.adapters import Adapter
    from racro.models.export import export as write
    from racro.models.folders import model_digest
    from racro.reports import card
    from tasks.choose import policy as chosen
    from tasks.running import trainer
    from tasks.running.engines import make_room

    found = chosen(policy, given, layout.absolute(root))
    trained = training(layout.absolute(root), found.files)
    try:
        with trainer.folder(found, Runtime(), make_room) as folder:
            write(folder, out, merge, kind)
    finally:
        trainer.release()
    page = card.render(found.files, push or str(out), Adapter.read(out), *(trained or (None, None)))
    (out / "README.md").write_text(page, encoding="utf-8")
    print(f"exported {found.files[:12]} to {out} (weights {model_digest(out)[:12]}); README.md is its model card")
    if push:
        print(f"uploaded to {upload(out, push, private)}")


def training(root: str, digest: str) -> tuple[Summary, Recipe] | None:
    """Summary and recipe of a training under the root that ended with these weights."""
    import yaml

    from racro.storage.artifacts import read_file
    from racro.storage.files import opened
    from racro.summary import Summary

    fs, path = opened(root)
    for found in sorted(fs.glob(f"{path}/*/summary.json")):
        name = found.rsplit("/", 2)[1]
        content = json.loads(read_file(layout.summary(root, name)))
        if (content.get("policy") or {}).get("digest") == digest and "optimizer_steps" in content:
            try:
                file = layout.recipe(root, name)
                settings = loading.parse(yaml.safe_load(read_file(file)), file)
            except loading.BadRecipe as error:  # of an older version
                print(f"racro: the model card cannot tell how the captioner was made: {error}", file=sys.stderr)
                return None
            return Summary.model_validate(content), settings
    return None


def upload(folder: Path, repository: str, private: bool) -> str:
    """Create the repository if need be, and upload the folder in one commit. Returns its address. Raises CannotPush."""
    from httpx import HTTPError  # what a hub that is out of reach is, for huggingface_hub
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    hub = HfApi()
    try:
        hub.create_repo(repository, private=private, exist_ok=True)
        hub.upload_folder(repo_id=repository, folder_path=folder, commit_message="Captioner exported by racro")
    except (HfHubHTTPError, LocalTokenNotFoundError, HTTPError, OSError, ValueError) as error:  # the last: no such name
        why = " ".join(str(error).split())[:300]
        raise CannotPush(
            f"--push {repository}: {why}; the folder {folder} is complete. Log in by `hf auth login`, or set HF_TOKEN"
        ) from error
    return f"{hub.endpoint}/{repository}"
