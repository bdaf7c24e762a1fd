"""A vLLM server that this project starts and stops, as an engine: `racro.engines.remote.client` asks it.

Not vLLM and does not import it. The server listens on the loopback interface only, because anyone who reaches it may
load weights into it. Opened by `racro.engines.opening`.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import httpx

from racro.config import Captioner, EnginePlacement, ModelSection, Runtime
from racro.config import Server as ServerConfig
from racro.engines.protocol import Engine, EngineLost, Generation, Refusal, Request, Role, SwapFailed
from racro.engines.remote.client import Endpoint
from racro.engines.vllm.environment import environment
from racro.engines.vllm.lora import not_served, room
from racro.errors import BadInput
from racro.models.adapters import Adapter
from racro.models.chat_template import chat_template
from racro.models.folders import base_folder, load_processor, require_model
from racro.models.pixels import UNLIMITED, arguments
from racro.processes.child import Child, ending, free_port, python
from racro.processes.gpus import cpu_build

HOST = "127.0.0.1"
IMAGES = 64
"""Images of one prompt, at most."""
PORTS = 3
"""Ports that are tried, when others take them first."""
CAUSE = re.compile(
    rb"^(?:.*(?:ERROR|\[\w.]+:\d+\]) )?(?:[\w.]+\.)?(ValidationError: .+(?:\n.+)?|\w+(?:Error|Exception): .+)$"
    rb"|(error: argument .+)$",
    re.MULTILINE,
)
CONSEQUENCES = (b"EngineDeadError", b"RuntimeError: Engine core initialization failed")
LOG = 1 << 22
"""Bytes of a server's log in which the cause of its end is looked for."""


class PortTaken(Exception):
    """Another process listens on the port."""


class Server(Engine):
    """The process and its client."""

    def __init__(
        self,
        role: Role,
        config: ModelSection,
        folder: str,
        runtime: Runtime,
        log: Path,
        port: int = 0,
    ) -> None:
        """Serve the model in `folder`; returns when it answers. `log`: what the server prints is appended.

        `port`: to try first. Raises BadInput when vLLM cannot take the model or the settings, EngineLost when it does
        not start.
        """
        assert isinstance(config.engine, ServerConfig)
        self.role, self.config, self.log = role, config, log
        self.place = runtime.place(role)
        self.cpu = cpu_build()
        self.asleep = self.discarded = False
        self.turning = threading.Lock()
        require_model(Path(folder), role)
        adapter, base = Adapter.read(Path(folder)), str(base_folder(Path(folder)))
        # A name that no other server has: a server on our port that answers to it is ours.
        name = f"{role}-{uuid.uuid4().hex[:12]}"
        self.rank = room(adapter, getattr(config, "lora", None))
        self.child, url = self._start(base, name, port, self.rank)
        try:
            keyless = self.place.model_copy(update={"api_key": ""})  # the user's key is for other servers
            template = chat_template(config.reads_images, Path(base), config.template_kwargs)
            self.endpoint = Endpoint(
                [url],
                name,
                keyless,
                role,
                base,
                config.dtype,
                self._died,
                config.template_kwargs,
                template,
                config.reads_images,
            )
            if adapter:
                self._adapt(adapter)
        except BaseException:  # Ctrl-C too: the server must not stay; raised again
            self.child.stop(0)
            raise

    @property
    def lost(self) -> bool:
        """See Engine."""
        return self.endpoint.lost or self.child.poll() is not None

    @property
    def positions(self) -> int | None:
        """See Engine."""
        return self.endpoint.positions

    def generate(self, requests: Iterable[Request]) -> Iterator[Generation | Refusal]:
        """See Engine and Endpoint."""
        self._wake()
        yield from self.endpoint.generate(requests)

    def swap(self, folder: str) -> None:
        """See Engine."""
        if self.config.engine.quantization is not None:  # type: ignore[union-attr]
            raise SwapFailed("a quantised engine cannot be compared with a checkpoint")
        with self.turning:
            self._rise()
            self.endpoint.swap(folder)
            self.discarded = False

    def sleep(self, discard: bool = False) -> None:
        """See Engine: weights go to main memory, keys and values are dropped. On a CPU there is nothing to free.

        Weights beside which adapters are swapped, and quantised ones, are kept.
        """
        quantised = self.config.engine.quantization is not None  # type: ignore[union-attr]
        with self.turning:
            if not self.cpu and not self.asleep:
                self.discarded = discard and not self.rank and not quantised
                self.endpoint.tell(f"/sleep?level={2 if self.discarded else 1}", self.place.start_deadline)
                self.asleep = True

    def close(self) -> None:
        """See Engine."""
        patience = 0.0 if self.lost else 5.0
        self.endpoint.close()
        self.child.stop(patience)

    def _adapt(self, adapter: Adapter) -> None:
        """The first adapter. Raises BadAdapter."""
        try:
            self.endpoint.swap(str(adapter.folder))
        except SwapFailed as error:
            self.endpoint.close()
            raise not_served(adapter, error) from error

    def _wake(self) -> None:
        """With the weights that it held."""
        with self.turning:
            self._rise()
            if self.discarded:
                self.endpoint.swap(self.endpoint.folder)
                self.discarded = False

    def _rise(self) -> None:
        """Take memory again. Discarded weights are still to be loaded."""
        if self.asleep:
            self.endpoint.tell("/wake_up", self.place.start_deadline)
            self.asleep = False

    def _start(self, folder: str, name: str, port: int, rank: int | None) -> tuple[Child, str]:
        for _ in range(PORTS):
            port = port or free_port()
            env = {**environment(self.place, self.cpu), "VLLM_SERVER_DEV_MODE": "1", "VLLM_API_KEY": ""}
            env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
            self.log_from = self.log.stat().st_size if self.log.exists() else 0
            child = Child(
                command(self.role, self.config, folder, self.place, self.cpu, name, port, rank), env=env, log=self.log
            )
            url = f"http://{HOST}:{port}/v1"
            try:
                self._wait(child, url, name)
                return child, url
            except PortTaken:
                port = 0
            except BaseException:  # the same
                child.stop(0)
                raise
        raise EngineLost(f"{self.role}: others take every port before its server does")

    def _wait(self, child: Child, url: str, name: str) -> None:
        """Return when the server answers to its name."""
        with httpx.Client(trust_env=False, timeout=5.0) as client:

            def ready() -> bool:
                with contextlib.suppress(httpx.RequestError):
                    return name in client.get(f"{url}/models").text
                return False

            try:
                if child.wait_until(ready, self.place.start_deadline):
                    return
            except TimeoutError as error:
                raise EngineLost(
                    f"{self.role}: the vLLM server did not answer within runtime.{self.role}.start_deadline "
                    f"({self.place.start_deadline:g} s); its log ends: {child.last_words()}"
                ) from error
        raise self._failure(child, child.poll() or 0)

    def _failure(self, child: Child, status: int) -> Exception:
        """Why a server that ended did not start."""
        why = self._cause()
        if "Address already in use" in why:
            return PortTaken()
        if "ValidationError" in why or why.startswith("error: argument"):
            return BadInput(f"{self.role}.engine: vLLM refuses the model or the settings: {why}; see {self.log}")
        return EngineLost(
            f"{self.role}: the vLLM server did not start ({ending(status)}){why and f': {why}'}; see {self.log}"
        )

    def _died(self) -> str | None:
        status = self.child.poll()
        if status is None:
            return None
        why = self._cause()
        return f"{self.role}: the vLLM server has ended ({ending(status)}){why and f': {why}'}; see {self.log}"

    def _cause(self) -> str:
        """The first cause among the errors in the log, in one line; empty if there is none."""
        with self.log.open("rb") as stream:
            stream.seek(self.log_from)
            errors = [one or other for one, other in CAUSE.findall(stream.read(LOG))]
        errors = [error for error in errors if not error.startswith(CONSEQUENCES)] or errors
        return " ".join(errors[0].decode(errors="replace").split())[:400] if errors else ""


def command(
    role: Role,
    config: ModelSection,
    folder: str,
    place: EnginePlacement,
    cpu: bool,
    name: str,
    port: int,
    rank: int | None,
) -> list[str]:
    """The command line of a server. Not `vllm serve`, which vLLM's CPU build lacks. `rank`: room for adapters."""
    engine = config.engine
    assert isinstance(engine, ServerConfig)
    images = ""
    if isinstance(config, Captioner) and config.pixels != UNLIMITED:
        images = json.dumps(arguments(load_processor(Path(folder), config.pixels), config.pixels))
    options: dict[str, object] = {
        "model": folder,
        "served-model-name": name,
        "host": HOST,
        "port": port,
        "dtype": config.dtype,
        "quantization": engine.quantization,
        "max-model-len": engine.max_model_len,
        "kv-cache-dtype": engine.kv_cache_dtype,
        "max-num-seqs": place.sequences,
        "max-num-batched-tokens": place.max_num_batched_tokens,
        "tensor-parallel-size": place.tensor_parallel,
        "gpu-memory-utilization": place.gpu_memory,
        "block-size": 32 if cpu else None,  # the default on CPUs is longer than a short prompt
        "generation-config": "vllm",  # or the server would sample as the model's folder says
        "logprobs-mode": "processed_logprobs",
        "worker-extension-cls": "racro.engines.vllm.weights.CheckpointLoading",
        "limit-mm-per-prompt": json.dumps({"image": IMAGES, "video": 0}) if config.reads_images else None,
        "mm-processor-kwargs": images or None,
        "max-lora-rank": rank,
        "mm-processor-cache-gb": 0,  # images hardly come back before thousands of others have passed
    }
    flags = ["enable-prefix-caching", "disable-uvicorn-access-log"]
    flags += ["enforce-eager"] if (cpu if place.eager is None else place.eager) else []
    flags += ["enable-lora"] if rank else []
    # On a CPU a prompt that is read in parts, and has a seed, kills vLLM's engine: its generators cannot step back.
    flags += ["no-enable-chunked-prefill"] if cpu else ["enable-sleep-mode"]
    return [
        *python("vllm.entrypoints.openai.api_server"),
        *(part for key, value in options.items() if value is not None for part in (f"--{key}", str(value))),
        *(f"--{flag}" for flag in flags),
    ]
