"""Options and arguments that several commands of `racro` share."""

from __future__ import annotations

from typing import Annotated

import typer

from flows import engine_pair
from flows.cli.completion import complete_recipe, complete_run
from flows.station import servers

RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="A shipped recipe by name (`racro recipe list`), or a YAML file by path.",
        autocompletion=complete_recipe,
    ),
]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Override a key.")]
Root = Annotated[str, typer.Option("--root", metavar="URI", help="Folder or URI for runs and artifacts.")]
Run = Annotated[str | None, typer.Option("--run", metavar="NAME", help="Name of the run.", autocompletion=complete_run)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Notify = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Tell people of failures, drift and new champions: a webhook, Slack, mailto://...; `none`: nobody.",
    ),
]
Silence = Annotated[
    int,
    typer.Option(
        min=servers.SHORTEST_SILENCE,
        metavar="SECONDS",
        help="Without a sign of life for so long, a server is started again and a flow run has crashed.",
    ),
]

# --- which models answer, and how: `racro answer` and `racro serve` ---------------------------------------------------

Captioner = Annotated[
    str | None, typer.Option(metavar="MODEL", help="`embedded`, a folder or a hub id. (default: embedded)")
]
EngineOption = Annotated[
    engine_pair.EngineName | None, typer.Option(help="What runs models. (default: the recipe's, or transformers)")
]
CaptionerUrl = Annotated[
    list[str] | None, typer.Option(metavar="URL", help="Endpoint that runs the captioner, http://host:8000/v1.")
]
ReasonerUrl = Annotated[
    list[str] | None, typer.Option(metavar="URL", help="The same for the reasoner. The key is in OPENAI_API_KEY.")
]
RecipeOption = Annotated[
    str | None,
    typer.Option(
        metavar="RECIPE",
        help="Models and settings of a recipe, command line first.",
        autocompletion=complete_recipe,
    ),
]
TrainedRun = Annotated[
    str | None,
    typer.Option(
        "--run",
        metavar="NAME",
        help="Recipe and trained captioner of a finished run.",
        autocompletion=complete_run,
    ),
]
Policy = Annotated[
    str | None, typer.Option(metavar="RUN|URI|champion", help="A trained captioner; champion: the best in MLflow.")
]
MaxTokens = Annotated[int | None, typer.Option(min=1, help="Longest caption, and longest answer.")]
AnswerMode = Annotated[
    str, typer.Option("--mode", metavar="joint|caption|vote|best|clues|shots|check", help="How it is answered.")
]
Captions = Annotated[
    int | None, typer.Option(metavar="K", help="vote, best: sampled captions of a question. (default: 5)")
]
CaptionTemperature = Annotated[
    float | None, typer.Option(metavar="T", help="vote, best: sampling temperature of captions. (default: 1)")
]
KindName = Annotated[
    str | None, typer.Option("--kind", metavar="KIND|YAML", help="best: the reward that chooses a caption.")
]
Clues = Annotated[int | None, typer.Option(metavar="N", help="clues: sub-questions, at most. (default: 5)")]
Shots = Annotated[int | None, typer.Option(metavar="N", help="shots: solved examples. (default: 4)")]
Examples = Annotated[str | None, typer.Option(metavar="FILE", help="shots: jsonl with question, caption and answer.")]
