"""The command `racro serve`: a pair of models behind a web page and an OpenAI-compatible API, until Ctrl-C.

Which pairs there are is `flows.serving`, the server itself `racro.serving`. Called by `flows.cli.app`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
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
GRACE, TELLING = 4, 1
"""Seconds for answers on their way when the server ends, and to tell the others."""
IDLE = 75
"""Seconds for which an idle connection stays open: longer than at clients and proxies (5 to 60), so that none of them
sends a request on one that is being closed here."""
START_DEADLINE = 60.0


@dataclass(frozen=True)
class Address:
    """Where to listen, and who may ask."""

    host: str
    port: int
    key: str = ""

    def __post_init__(self) -> None:
        """Raises BadOption for a key that no header can carry."""
        if not re.fullmatch(r"[!-~]*", self.key):
            raise BadOption("--api-key: write it in letters, digits and signs of ASCII, without blanks")

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
        timeout=timeout,
        private_links=allow_private_links,
    )
    start(models, reasoner or [], Address(host, port, api_key), limits, keep, not no_page, votes or [])
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
            from racro.serving import api

            app = api.build(service, address.key, ballots)
            shown = page and _page(app, service, catalogue, ballots, address.key)
        running.enter_context(_serving(app, address, service.end))
        engine_pair.warn(models, recipe)
        if address.open:
            print("racro: everybody who reaches this address may ask; --api-key KEY limits that", file=sys.stderr)
        print(f"Page     {address.url}/" if shown else f"Page     none; {_why_none(page)}")
        print(f"API      {address.url}/v1\nCtrl-C ends both.", flush=True)
        interruption.wait()


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


@contextlib.contextmanager
def _serving(app: FastAPI, address: Address, end: Callable[[], None]) -> Iterator[None]:
    """The server in a thread: signals stay with the command. Raises RuntimeError if it does not start.

    `end`: called when answers on their way have had their time.
    """
    import uvicorn

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            asyncio.get_running_loop().call_later(GRACE, end)
            await super().shutdown(sockets)

    settings = uvicorn.Config(
        app,
        http="h11",  # it limits heads
        host=address.host,
        port=address.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE + TELLING,
        timeout_keep_alive=IDLE,
    )
    server = Server(settings)
    thread = threading.Thread(target=server.run, name="http", daemon=True)
    thread.start()
    waited = threading.Event()
    for _ in range(int(START_DEADLINE * 20)):
        if server.started or not thread.is_alive():
            break
        waited.wait(0.05)
    if not server.started:
        raise RuntimeError(f"the server did not start on {address.host}:{address.port}")
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(GRACE + TELLING + 5)
