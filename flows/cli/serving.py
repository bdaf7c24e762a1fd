"""The command `racro serve`: a pair of models behind a web page and an OpenAI-compatible API, until Ctrl-C.

Which pairs there are is `flows.serving`, the server itself `racro.serving`. Called by `flows.cli.app`.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows import engine_pair, interruption
from flows.cli import evaluate_options
from flows.cli.options import (
    AnswerMode,
    Captioner,
    CaptionerUrl,
    Captions,
    CaptionTemperature,
    Clues,
    EngineOption,
    Examples,
    KindName,
    MaxTokens,
    Policy,
    ReasonerUrl,
    RecipeOption,
    Root,
    Shots,
    TrainedRun,
)
from flows.engine_pair import BadOption, Models
from flows.saying import say
from flows.serving import Catalogue, content
from flows.station import local, servers
from racro import imports
from racro.serving.limits import MIB, Limits

if TYPE_CHECKING:
    from fastapi import FastAPI

    from racro.serving.service import Service
    from racro.serving.votes import Votes

EXTRA = "pip install 'racro[serve]'"
MLFLOW = "mlflow"
"""The place of votes that is no file."""


@dataclass(frozen=True)
class Address:
    """Where to listen, and who may ask."""

    host: str
    port: int
    key: str = ""
    proxy: str = ""
    """Whose X-Forwarded-For is believed: an address or a network; empty: nobody's."""

    def __post_init__(self) -> None:
        """Raises BadOption for a key that no header can carry, and for a proxy that is no address."""
        if not re.fullmatch(r"[!-~]*", self.key):
            raise BadOption("--api-key: write it in letters, digits and signs of ASCII, without blanks")
        try:
            ipaddress.ip_network(self.proxy or "::1")
        except ValueError as error:
            raise BadOption(f"--proxy: {error}; give its address, or its network as 10.0.0.0/8") from error

    @property
    def open(self) -> bool:
        """Can others reach it without a key?"""
        return not self.key and self.host not in ("127.0.0.1", "::1", "localhost")

    @property
    def url(self) -> str:
        """For people on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host and '[' not in host else host}:{self.port}"


def serve(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where to listen: the page at /, the API at /v1.")] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0: for everybody.")] = "127.0.0.1",
    api_key: Annotated[
        str,
        typer.Option(metavar="KEY", envvar="RACRO_API_KEY", help="What clients must send; on the page, a password."),
    ] = "",
    captioner: Captioner = None,
    reasoner: Annotated[
        list[str] | None, typer.Option(metavar="MODEL", help="The same; several: clients choose. (default: embedded)")
    ] = None,
    engine: EngineOption = None,
    captioner_url: CaptionerUrl = None,
    reasoner_url: ReasonerUrl = None,
    recipe: RecipeOption = None,
    run: TrainedRun = None,
    root: Root = "runs",
    policy: Policy = None,
    max_tokens: MaxTokens = None,
    mode: AnswerMode = "joint",
    captions: Captions = None,
    caption_temperature: CaptionTemperature = None,
    kind: KindName = None,
    clues: Clues = None,
    shots: Shots = None,
    examples: Examples = None,
    keep: Annotated[int, typer.Option(min=1, help="Captioners loaded at most: 2 to compare.")] = 2,
    concurrency: Annotated[int, typer.Option(min=1, help="Questions that are worked on at once.")] = 16,
    queue: Annotated[int, typer.Option(min=0, help="Requests that wait besides; more get status 429.")] = 64,
    rate: Annotated[
        int, typer.Option(min=0, help="Questions a minute from one address; more get status 429; 0: no limit.")
    ] = 0,
    proxy: Annotated[
        str, typer.Option(metavar="ADDRESS", help="A proxy before this server; its X-Forwarded-For is believed.")
    ] = "",
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for an answer, waiting included.")] = 300.0,
    max_body: Annotated[int, typer.Option(min=1, metavar="MIB", help="Size of a request with its images.")] = 20,
    allow_private_links: Annotated[
        bool, typer.Option("--allow-private-links", help="Fetch images from this machine and its network too.")
    ] = False,
    no_page: Annotated[bool, typer.Option("--no-page", help="The API alone.")] = False,
    votes: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE|mlflow", help="Where votes go; twice: both. (default: votes.jsonl under the root)"),
    ] = None,
) -> None:
    """Serve a pair of models: a web page and an OpenAI-compatible API; without anything, the embedded pair."""
    [chosen] = evaluate_options.modes([mode])
    settings = evaluate_options.mode_settings(
        [chosen], kind, captions=captions, caption_temperature=caption_temperature, clues=clues, shots=shots
    )
    models = Models(
        captioner,
        None,
        engine,
        captioner_url or (),
        reasoner_url or (),
        recipe,
        run,
        root,
        policy,
        max_tokens,
        chosen,
        settings,
        examples,
    )
    body = max_body * MIB
    limits = Limits(
        body=body,
        image=body,
        concurrency=concurrency,
        queue=queue,
        rate=rate,
        timeout=timeout,
        private_links=allow_private_links,
    )
    start(models, reasoner or [], Address(host, port, api_key, proxy), limits, keep, not no_page, votes or [])
    interruption.finish()


def start(
    models: Models,
    reasoners: Sequence[str],
    address: Address,
    limits: Limits,
    keep: int,
    page: bool,
    votes: Sequence[str],
) -> None:
    """Serve until the first signal. Raises BadInput, EngineLost."""
    models = replace(models, reasoner=reasoners[0] if reasoners else None)
    engine_pair.check(models)
    if len(reasoners) > 1 and models.reasoner_urls:
        raise BadOption("--reasoner: several, and --reasoner-url: endpoints hold one; give one of the two once")
    servers.check_port("--port", address.host, address.port)
    recipe = engine_pair.given_recipe(models)
    say("loading the models")
    engine_pair.reach("--captioner-url", models.captioner_urls)
    engine_pair.reach("--reasoner-url", models.reasoner_urls)
    home = local.settle()
    ballots = _votes(votes, models.root, home)
    catalogue = Catalogue(models, reasoners, recipe)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with contextlib.ExitStack() as running:
        with imports.quick():
            service = running.enter_context(_opened(catalogue, limits, keep))
            from racro.serving import api, server

            app = api.build(service, address.key, ballots)
            shown = page and _page(app, service, catalogue, ballots, address.key)
        faces = app if address.open or address.key or address.proxy else server.AtHome(app)
        running.enter_context(
            server.running(faces, address.host, address.port, limits.upload, service.end, address.proxy)
        )
        engine_pair.warn(models, recipe)
        if address.open:
            print("racro: everybody who reaches this address may ask; --api-key KEY limits that", file=sys.stderr)
        print(f"Page     {address.url}/" if shown else f"Page     none; {_why_none(page)}")
        interruption.wait(f"API      {address.url}/v1\nCtrl-C ends both.")


@contextlib.contextmanager
def _opened(catalogue: Catalogue, limits: Limits, keep: int) -> Iterator[Service]:
    """The default pair, loaded, so that what is wrong shows now."""
    from racro.serving.pairs import Name, Pairs
    from racro.serving.service import Service

    pairs = Pairs(catalogue.find, list(catalogue.minds), catalogue.captioners, keep)
    with interruption.orderly():
        try:
            with pairs.use(Name()):
                pass
            yield Service(pairs, limits)
        finally:
            pairs.close()


def _page(app: FastAPI, service: Service, catalogue: Catalogue, votes: Votes, key: str) -> bool:
    """Put the page at `/`; False where Gradio is not installed."""
    from racro.serving import page

    try:
        page.mount(app, service, votes, content(catalogue.models, catalogue.recipe), key)
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        return False
    return True


def _why_none(wanted: bool) -> str:
    return f"{EXTRA} adds it" if wanted else "it was switched off by --no-page"


def _votes(places: Sequence[str], root: str, home: Path) -> Votes:
    """A file, always: under the root, unless that is elsewhere. Raises BadOption, NoStore."""
    from racro.serving.votes import Votes

    files = [Path(place) for place in places if place != MLFLOW]
    if len(files) > 1:
        raise BadOption("--votes: several files; give one, or one and mlflow")
    more = None
    if MLFLOW in places:
        from tasks.recording.feedback import Feedback

        more = Feedback()
    files.append(home / "votes.jsonl" if "://" in root else Path(root) / "votes.jsonl")
    return Votes(files[0], more)
