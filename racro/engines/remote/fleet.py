"""Servers that hold the same model: which one gets the next request, which one hangs, and when none is left.

Not an engine and knows nothing of prompts. Everything here runs in one event loop; used by
`racro.engines.remote.client`.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import random
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from racro.config import Address, EnginePlacement
from racro.engines.protocol import EngineLost, Prompt, Request, Role, Sampling, SwapFailed
from racro.engines.remote import scoring
from racro.engines.remote.chat import BadAnswer, complaint
from racro.engines.remote.upstream import PATIENCE, Hung, Upstream
from racro.errors import BadInput

CONNECT = 10.0
"""Seconds to connect."""
IDLE = 2.0
"""Seconds after which an idle connection is closed: before the server does, which would cost a request."""
POLL = 0.05
"""Seconds between checks for a server that can take requests."""
CHECKS = 4
"""Checks for a sign of life within the time of silence."""


class Fleet:
    """The servers, one HTTP client, and the tasks that watch them."""

    def __init__(
        self, addresses: Sequence[Address], model: str, place: EnginePlacement, role: Role, token_ids: bool = False
    ) -> None:
        """`model`: its name at the servers. `token_ids`: are they needed?

        This and all other methods must be called in the event loop. Raises BadInput.
        """
        self.place, self.role, self.token_ids = place, role, token_ids
        self.servers = [Upstream(address, role, model) for address in addresses]
        self.patience = min(PATIENCE, place.silence)
        self.died: Callable[[], str | None] = lambda: None
        """Says why, once no server can ever answer again."""
        self.error: Exception | None = None
        """Why no more requests can be sent."""
        self.moved = 0
        """Requests that one server did not answer, and another one did."""
        self.freed = asyncio.Event()
        """Set when a server has answered, or has failed to."""
        local = all(httpx.URL(server.url).host in ("127.0.0.1", "localhost", "::1") for server in self.servers)
        self.client = httpx.AsyncClient(
            headers={"Content-Type": "application/json"},
            timeout=httpx.Timeout(None, connect=CONNECT),
            limits=httpx.Limits(keepalive_expiry=IDLE),
            trust_env=not local,  # a proxy cannot reach this machine
        )
        self.tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Returns when at least one server takes requests. Raises BadInput and EngineLost."""
        await self.introduce()
        watching = (self._watch(), *map(self._recover, self.servers))
        self.tasks = [asyncio.create_task(coroutine) for coroutine in watching]
        self.vllm = (await self.pick()).vllm

    async def introduce(self) -> None:
        """Ask all servers what they serve. Raises BadInput."""
        await asyncio.gather(*(self._introduce(server) for server in self.servers))

    async def require_scores(self) -> None:
        """Have each server that answers score a short text. Raises BadInput for the first that cannot."""
        for server in (server for server in self.servers if server.known):
            try:
                if not (server.vllm and await self._scores(server)):
                    raise server.no_scores()
            except httpx.RequestError as error:
                self.unreachable(server, error, time.monotonic())

    async def close(self) -> None:
        """Close all connections."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.client.aclose()

    async def pick(self, weight: int = 0) -> Upstream:
        """The server with the least to do; waits until one takes `weight` sequences more.

        Raises EngineLost and BadInput.
        """
        while True:
            self._check()
            now = time.monotonic()
            ready = [server for server in self.servers if server.known and server.aside <= now]
            if ready := [server for server in ready if server.room_for(weight)]:
                return min(ready, key=lambda server: server.flying)
            self.freed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL * random.uniform(1.0, 2.0)):
                    await self.freed.wait()

    async def ask(self, server: Upstream, url: str, body: bytes, weight: int) -> httpx.Response:
        """POST what takes `weight` sequences. Raises httpx.RequestError, and Hung if the server hangs."""
        if not server.flying:
            server.heard = time.monotonic()
        server.flying += weight
        answer = asyncio.create_task(self._post(server, url, content=body))
        # Or asyncio warns about an error that nothing has read.
        answer.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            await asyncio.wait({answer, server.gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise Hung
            return answer.result()
        finally:
            answer.cancel()  # which closes the connection, so that the server stops working on it
            server.flying -= weight
            self.freed.set()

    def unreachable(self, server: Upstream, error: httpx.RequestError, asked: float) -> None:
        """Note that a request sent at `asked` got no answer."""
        server.known = False
        server.ill(_line(error), asked, self.patience)

    def said(self, answer: httpx.Response) -> str:
        """A server's complaint, without keys, which some servers repeat."""
        complained = complaint(answer.content)
        for secret in (secret for server in self.servers for secret in server.secrets):
            complained = complained.replace(secret, "***")
        return complained

    async def tell(self, path: str, seconds: float) -> None:
        """POST to a path that only vLLM's servers have, on each of them. Raises SwapFailed and EngineLost."""
        await asyncio.gather(*(self._tell(server, path, seconds) for server in self.servers))

    async def load(self, folder: str, adapter: bool) -> list[Any]:
        """Make all servers load another checkpoint, or another `adapter` for the one that they have.

        Returns the sums of each server (see `racro.engines.vllm.weights`), by rank. Raises SwapFailed and EngineLost.
        """
        return await asyncio.gather(*(self._load(server, folder, adapter) for server in self.servers))

    async def _scores(self, server: Upstream) -> bool:
        """Does it say how probable a text is?"""

        async def ask(url: str, fields: dict[str, Any]) -> bytes:
            return (await self._post(server, url, json=fields, timeout=self.place.silence)).content

        probe = Request(0, Prompt([]), Sampling(), 0, forced="A")
        try:
            ids = scoring.tokens(await ask(server.root + scoring.TOKENIZE, scoring.of_text(server.name, "A")))
            both = await ask(server.url + scoring.COMPLETIONS, scoring.of_both(server.name, (*ids, *ids)))
            return bool(scoring.generation(both, probe, ids, ids).completions)
        except BadAnswer:
            return False

    async def _get(self, server: Upstream, url: str, seconds: float) -> httpx.Response:
        return await self.client.get(url, headers=server.headers, timeout=seconds)

    async def _post(self, server: Upstream, url: str, **how: Any) -> httpx.Response:
        return await self.client.post(url, headers=server.headers, **how)

    def _check(self) -> None:
        if self.error is None and (why := self.died()):
            self.error = EngineLost(why)
        if self.error is None and all(server.down() for server in self.servers):
            troubles = "; ".join(f"{server.url} ({server.trouble})" for server in self.servers)
            self.error = EngineLost(f"no server of the {self.role} answers: {troubles}")
        if self.error is not None:
            raise copy.copy(self.error)  # each raise adds to an exception's traceback

    async def _introduce(self, server: Upstream) -> None:
        """Ask a server what it serves. Raises BadInput if that is not what is needed."""
        asked = time.monotonic()
        try:
            server.introduce(await self._get(server, f"{server.url}/models", self.patience))
        except httpx.RequestError as error:
            return self.unreachable(server, error, asked)
        except BadAnswer as error:
            return server.ill(str(error), asked, self.patience)
        if self.token_ids and not server.vllm:
            raise BadInput(
                f"runtime.captioner.urls: {server.url} is no vLLM server and gives no token ids, without which a "
                "captioner cannot be trained; serve the captioner with vLLM, or choose another captioner.engine"
            )
        if any(other.known and other.vllm != server.vllm for other in self.servers):
            raise BadInput(f"runtime.{self.role}.urls: all servers must be vLLM's, or none; {server.url} is different")
        server.known = True
        server.well()

    async def _recover(self, server: Upstream) -> None:
        """Ask servers again that could not be reached, until they can."""
        while True:
            await asyncio.sleep(POLL)
            if not server.known and server.aside <= time.monotonic():
                try:
                    await self._introduce(server)
                except BadInput as error:
                    self.error = self.error or error

    async def _watch(self) -> None:
        """Check servers with requests in flight; slow and hung ones look alike otherwise."""
        while True:
            await asyncio.sleep(self.place.silence / CHECKS)
            await asyncio.gather(*(self._check_alive(server) for server in self.servers if server.flying))

    async def _check_alive(self, server: Upstream) -> None:
        url = f"{server.root}/metrics" if server.vllm else f"{server.url}/models"
        with contextlib.suppress(httpx.RequestError):
            server.alive(await self._get(server, url, self.place.silence / CHECKS))
        if server.flying and time.monotonic() - server.heard > self.place.silence:
            server.hung(self.place.silence)

    async def _load(self, server: Upstream, folder: str, adapter: bool) -> Any:
        """Load between requests, and clear every cache of the old weights."""
        seconds = self.place.silence
        await self._tell(server, "/pause?mode=wait", seconds)
        try:
            call: dict[str, Any] = {"method": "load_checkpoint", "kwargs": {"folder": folder}}
            if adapter:
                call, name = {"method": "adapter_sums"}, f"adapter-{uuid.uuid4().hex[:12]}"
                named = {"lora_name": name, "lora_path": folder}
                await self._tell(server, "/v1/load_lora_adapter", self.place.start_deadline, named)
                server.model = server.name = name  # requests name it from now on
            loaded = await self._tell(server, "/collective_rpc", self.place.start_deadline, call)
            cleared = await self._tell(server, "/reset_prefix_cache", seconds)
            if not cleared.json()["success"]:
                raise SwapFailed(f"{server.url}: keys and values of the old weights are still in use")
            await self._tell(server, "/reset_mm_cache", seconds)
            await self._tell(server, "/reset_encoder_cache", seconds)
        except SwapFailed:
            with contextlib.suppress(SwapFailed, EngineLost):
                await self._tell(server, "/resume", seconds)
            raise
        await self._tell(server, "/resume", seconds)
        return loaded.json()["results"]

    async def _tell(self, server: Upstream, path: str, seconds: float, content: object = None) -> httpx.Response:
        try:
            answer = await self._post(server, server.root + path, json=content, timeout=seconds)
        except httpx.RequestError as error:
            self.error = EngineLost(self.died() or f"{server.url} does not answer {path}: {_line(error)}")
            raise self.error from error
        if answer.status_code == 404:
            raise SwapFailed(
                f"{server.url} cannot do {path}: start vLLM with VLLM_SERVER_DEV_MODE=1 and --worker-extension-cls "
                "racro.engines.vllm.weights.CheckpointLoading (for adapters VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and "
                f"--enable-lora too), or leave runtime.{self.role}.urls empty"
            )
        if answer.status_code >= 400:
            raise SwapFailed(f"{server.url} refuses {path} ({answer.status_code}): {self.said(answer)}")
        return answer


def away(place: EnginePlacement, model: str, role: Role, scores: bool = False) -> list[str]:
    """Which endpoints of a placement do not answer now, each with the reason. Raises BadInput for what they lack.

    `scores`: must they say how probable a given text is?
    """

    async def look() -> list[str]:
        fleet = Fleet(place.endpoints, model, place, role)
        fleet.patience = min(fleet.patience, CONNECT)
        try:
            await fleet.introduce()
            if scores:
                await fleet.require_scores()
        finally:
            await fleet.close()
        return [f"{server.url} ({server.trouble})" for server in fleet.servers if not server.known]

    with ThreadPoolExecutor(1) as pool:  # the caller's thread may have a loop already, as in a notebook
        return pool.submit(asyncio.run, look()).result()


def _line(error: httpx.RequestError) -> str:
    return f"{type(error).__name__} {error}".strip()
