"""One server behind a base URL: what it serves, whether it answers, how much it has to do.

Not a client. Everything here runs in the event loop of the fleet and is not thread-safe. Used by
`racro.engines.remote.fleet`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import re
import time
from email.utils import parsedate_to_datetime

import httpx

from racro.config import Address
from racro.engines.protocol import Role
from racro.engines.remote.chat import BadAnswer, complaint
from racro.errors import BadInput

PATIENCE = 30.0
"""Seconds for which a server may refuse connections; servers that are started here have their own deadline."""
ASIDE = 15.0
"""The longest pause after a failure, in seconds; the first one is a fraction of a second."""
PROGRESS = re.compile(r"^vllm:(?:generation|prompt)_tokens_total(?:\{.*\})? (\S+)$", re.MULTILINE)
"""vLLM's counters of tokens: a server whose engine hangs still reports that it is healthy."""
SHOWN = 8
"""Names of models in an error message."""


logger = logging.getLogger(__name__)


class Hung(Exception):
    """The server has given no sign of life."""


class Upstream:
    """A server's address, what it said of itself, and its state."""

    def __init__(self, address: Address, role: Role, model: str) -> None:
        """`model`: the name of the model that is wanted. Raises BadInput."""
        self.key = address.api_key or ""
        """Name of the environment variable with the API key."""
        self.url, self.role, self.model = checked(address.url, role, self.key), role, model
        self.headers, self.secrets = _headers(address, self.url, role)
        """What each request to it carries, and which parts of that no message may show."""
        self.sequences = address.sequences
        self.root = self.url[: self.url.rindex("/v1")]
        """The URL below which a vLLM server has its additional paths."""
        self.vllm = False
        self.name = model
        """The server's name of the model."""
        self.names: list[str] = []
        """Names of all models that it serves."""
        self.positions: int | None = None
        """Of the model, for prompt and completion together, if the server says so."""

        self.known = False
        """True while it has said what it serves and can be reached."""
        self.flying = 0
        """Sequences that it generates for us."""
        self.aside = 0.0
        """It gets no requests until then, on the monotonic clock."""
        self.answered = 0
        """Requests that it has answered."""
        self.failures = 0
        self.failed = 0.0
        self.trouble = ""
        """Its last failure."""
        self.ill_since: float | None = None
        self.patience = PATIENCE
        self.heard = 0.0
        """Its last sign of life."""
        self.progress: list[str] = []
        self.gone = asyncio.get_running_loop().create_future()
        """Done when it hangs. Requests wait for this and for the answer."""

    # --- what it is ---------------------------------------------------------------------------------------------------

    def introduce(self, answer: httpx.Response) -> None:
        """Learn from the answer to GET /models. Raises BadInput and BadAnswer."""
        if answer.status_code == 429 or answer.status_code >= 500:
            raise BadAnswer(f"{answer.status_code}: {complaint(answer.content)}")
        self.let_in(answer)
        try:
            models = json.loads(answer.content)["data"] or []
            self.names = [model["id"] for model in models]
            self.vllm = any(model.get("owned_by") == "vllm" for model in models)
            longest = {model["id"]: model.get("max_model_len") for model in models}
            for model in models:
                if self.model in (model["id"], model.get("root")):
                    self.name = model["id"]
                    self.positions = longest[self.name] or longest.get(model.get("parent"))  # an adapter says none
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(
                f"runtime.{self.role}.urls: {self.url} does not answer like an OpenAI-compatible server "
                f"(GET /models: {answer.status_code} {complaint(answer.content)[:80]!r}); check the address"
            ) from error
        if self.names and self.name not in self.names:
            raise self.no_model()

    def let_in(self, answer: httpx.Response) -> None:
        """Raises BadInput if the server refuses the key."""
        if answer.status_code in (401, 403):
            raise BadInput(
                f"runtime.{self.role}.urls: {self.url} refuses the API key; put the right one into the "
                f"environment variable {self.key}, or name another one in runtime.{self.role}.api_key"
            )

    def no_model(self) -> BadInput:
        """The error of a model that the server does not have."""
        listed = ", ".join(self.names[:SHOWN]) + (f" and {len(self.names) - SHOWN} more" if self.names[SHOWN:] else "")
        return BadInput(
            f"{self.role}.model: {self.url} has no model {self.model!r}; it has {listed or 'none'}. Name one of them, "
            "or have the server serve it under this name"
        )

    def no_scores(self) -> BadInput:
        """The error of a server that does not say how probable a given text is."""
        return BadInput(
            f"{self.role}.engine: {self.url} does not say how probable a given text is, which the reward confidence "
            f"asks; serve the model with vLLM so that {self.root}/tokenize and prompt_logprobs are there, set "
            f"{self.role}.engine.type=vllm or transformers, or leave this reward out"
        )

    # --- how it is ----------------------------------------------------------------------------------------------------

    def well(self) -> None:
        """Note that it has answered as it should."""
        self.heard = time.monotonic()
        self.failures, self.ill_since = 0, None

    def ill(self, trouble: str, asked: float, patience: float) -> None:
        """Note that a request sent at `asked` has failed. Requests that fail together count as one failure."""
        self.trouble, self.patience = trouble, patience
        now = time.monotonic()
        if self.ill_since is None:
            logger.warning("%s: %s does not answer: %s", self.role, self.url, trouble)
        if asked >= self.failed:
            self.failed = now
            self.failures += 1
            self.ill_since = self.ill_since or now
            self.set_aside(min(0.25 * 2**self.failures, ASIDE) * random.uniform(0.5, 1.0))

    def hung(self, silence: float) -> None:
        """Mark the server hung; hand its requests to others."""
        self.trouble, self.patience = f"no sign of life for {silence:g} s", silence
        self.ill_since, self.known = self.heard, False
        self.set_aside(silence)
        self.gone.set_result(None)
        self.gone = self.gone.get_loop().create_future()

    def set_aside(self, seconds: float) -> None:
        """Send no requests for so long."""
        self.aside = max(self.aside, time.monotonic() + seconds)

    def room_for(self, weight: int) -> bool:
        """May it be given so many sequences more? One that is idle takes any request."""
        return not self.sequences or not self.flying or self.flying + weight <= self.sequences

    def down(self) -> bool:
        """Has it been failing for longer than allowed?"""
        return self.ill_since is not None and time.monotonic() - self.ill_since >= self.patience

    def alive(self, answer: httpx.Response) -> None:
        """Note an answer to the check for a sign of life. vLLM's engine must have made tokens since the last check."""
        found = PROGRESS.findall(answer.text) if self.vllm else []
        if not found or found != self.progress:
            self.heard = time.monotonic()
            self.progress = found


def checked(url: str, role: Role, key: str) -> str:
    """A base URL without the slash at its end. Raises BadInput."""
    try:
        parsed = httpx.URL(url)
        usable = parsed.scheme in ("http", "https") and bool(parsed.host)
        usable = usable and re.search(r"/v1(?![0-9])[^/]*(/|$)", parsed.path) is not None
    except httpx.InvalidURL:
        usable = False
    if not usable:
        shown = re.sub(r"//[^/]*@", "//", url.partition("?")[0])
        raise BadInput(
            f"runtime.{role}.urls: {shown!r} is no base URL of an OpenAI-compatible server; it has the form "
            "http://host:8000/v1"
        )
    if parsed.userinfo or parsed.query:
        raise BadInput(
            f"runtime.{role}.urls: the URL of {parsed.host} carries a password or a key; give http://host:8000/v1 "
            f"alone, and put the key into the environment variable {key}"
        )
    return url.rstrip("/")


def _headers(address: Address, url: str, role: Role) -> tuple[dict[str, str], tuple[str, ...]]:
    """Headers with the values that the environment holds, and these values. Raises BadInput."""
    headers, secrets = {}, []
    if key := os.environ.get(address.api_key or "", ""):
        headers["Authorization"] = f"Bearer {key}"
        secrets.append(key)
    for name, value in address.headers.items():
        if value.startswith("$"):
            found = os.environ.get(value[1:])
            if not found:
                raise BadInput(
                    f"runtime.{role}.urls: the header {name} of {url} is read from the environment variable "
                    f"{value[1:]}, which is not set"
                )
            secrets.append(found)
            value = found
        headers[name] = value
    for name, value in headers.items():
        if not (f"{name}{value}".isascii() and f"{name}{value}".isprintable()):
            raise BadInput(f"runtime.{role}.urls: the header {name!r} of {url}: printable ASCII characters only")
    return headers, tuple(secrets)


def retry_after(answer: httpx.Response) -> float | None:
    """Seconds to wait that a server asks for; it may name a date instead."""
    said = answer.headers.get("retry-after", "")
    try:
        seconds = float(said) if said.strip().isdigit() else parsedate_to_datetime(said).timestamp() - time.time()
    except ValueError:
        return None
    return max(0.0, seconds)
