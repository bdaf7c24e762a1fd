"""Recipe section `runtime`: where and how fast. It changes no digest and no cache key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, model_validator

from racro.config.base import Config, Seconds, Share
from racro.config.cluster import Cluster, LocalCluster
from racro.config.models import JUDGES, REASONERS, Reasoner


class Timeouts(Config):
    """Time limits of stages in seconds. A stage that exceeds its limit fails and is not retried."""

    fingerprint: Seconds = 6 * 3600
    """Computing the fingerprints of one benchmark, for the overlap check."""
    prepare: Seconds = 6 * 3600
    """Reading and checking the training problems, or the held-out ones."""
    parity: Seconds = 3600
    """Comparing engine and trainer before the first iteration."""
    select: Seconds = 3600
    """Choosing the problems of one iteration, where a curriculum does."""
    caption: Seconds = 6 * 3600
    """Captions of one iteration."""
    solve: Seconds = 6 * 3600
    """The policy's own answers of one iteration, in stages whose objective is `answer`."""
    reward: Seconds = 6 * 3600
    """The values of one reward for the captions of one iteration."""
    refer: Seconds = 3600
    """Choosing references for the groups of one iteration, where `rollout.references` is on."""
    compose: Seconds = 3600
    """The sum of the rewards of one iteration, and its advantages."""
    profile: Seconds = 3600
    """Counting the right answers of the initial policy, from captions and rewards that are there."""
    update: Seconds = 6 * 3600
    """The optimizer steps of one iteration."""
    load: Seconds = 6 * 3600
    """Reading one benchmark."""
    describe: Seconds = 6 * 3600
    """Captions for one part (1,024 questions) of a benchmark or of the held-out problems."""
    attempt: Seconds = 6 * 3600
    """The captioner's answers to one part of a benchmark."""
    answer: Seconds = 6 * 3600
    """The reasoner's answers to one part of a benchmark."""
    grade: Seconds = 3600
    """Grading the answers to one benchmark in one mode."""
    aggregate: Seconds = 3600
    """Computing the metrics of one benchmark in one mode."""
    approval: Seconds = 24 * 3600
    """Waiting for a person's word before the champion changes (`racro train --approve`); then it stays."""


class Address(Config):
    """A running endpoint, with what only this one needs."""

    url: str
    """Base URL, for example `http://host:8000/v1`."""
    api_key: str | None = None
    """Name of the environment variable that holds its key; None: that of the placement."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Further HTTP headers. A value `$NAME` is read from the environment variable NAME, so that no secret is written
    down."""
    sequences: PositiveInt | None = None
    """Largest number of simultaneous requests to it; None: as many as `sequences` of the placement leaves to it."""


def _numbers_of_gpus(value: Any) -> Any:
    if not isinstance(value, list | tuple) or any(type(one) is not int or one < 0 for one in value):
        raise ValueError("give a list of the numbers of GPUs, counted from 0, as in [0, 1]")
    if len(set(value)) < len(value):
        raise ValueError(f"{[*value]} names a GPU twice; name each once")
    return value


Gpus = Annotated[tuple[NonNegativeInt, ...], BeforeValidator(_numbers_of_gpus)]


class EnginePlacement(Config):
    """Where the engine of a role runs, and how much of the machine it uses."""

    worker: bool | None = None
    """Run the engine in a child process? None: yes for vLLM, no for the others."""
    cluster: bool = True
    """Run it on the nodes of `runtime.cluster`? Without a cluster, or with false: on the machine of the run."""
    gpus: Gpus = ()
    """Numbers of the GPUs to use; empty: all that the process sees."""
    tensor_parallel: PositiveInt = 1
    """Number of GPUs over which one copy of the model is spread."""
    data_parallel: PositiveInt = 1
    """Number of copies of the model. Each runs in a separate process, and prompts are balanced among them."""
    gpu_memory: Annotated[float, Field(gt=0, le=1)] = 0.85
    """Share of each GPU's memory that vLLM uses, 0 to 1."""
    cpu_cache: Annotated[float, Field(gt=0)] = 1.0
    """Size of vLLM's KV cache on a CPU, in GiB."""
    sequences: PositiveInt = 256
    """Largest number of sequences that are decoded at once, or of simultaneous requests to all endpoints
    together."""
    max_num_batched_tokens: PositiveInt | None = None
    """Largest number of tokens that vLLM computes in one step, of prompts and answers together; None: vLLM's choice.
    Smaller saves memory, larger reads prompts faster. It must hold the largest image."""
    eager: bool | None = None
    """Run vLLM without CUDA graphs and compilation, which starts in seconds but generates more slowly. None: only on
    CPUs."""
    urls: tuple[str | Address, ...] = ()
    """Base URLs of running endpoints, for example `http://host:8000/v1`; only for the engine `server`. An endpoint with
    a key, headers or a limit that the others do not have is written `{url: ..., api_key: ...}`. Empty: the run starts a
    server."""
    api_key: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key for these endpoints."""
    start_deadline: Seconds = 900.0
    """Seconds within which a started engine must be ready."""
    silence: Seconds = 120.0
    """Seconds without a sign of life after which an engine's process counts as hung. For vLLM, a sign of life is a
    decoding step."""

    @property
    def endpoints(self) -> tuple[Address, ...]:
        """The running endpoints, each with the name of its key."""
        found = (one if isinstance(one, Address) else Address(url=one) for one in self.urls)
        return tuple(one.model_copy(update={"api_key": one.api_key or self.api_key}) for one in found)

    @property
    def needed(self) -> int:
        """GPUs for all copies of the model."""
        return self.tensor_parallel * self.data_parallel

    @model_validator(mode="after")
    def _enough_gpus(self) -> Self:
        if self.gpus and not self.urls and len(self.gpus) < self.needed:
            raise ValueError(
                f"gpus: {list(self.gpus)} are fewer than tensor_parallel x data_parallel = {self.needed}; name more, "
                "or lower these"
            )
        return self


def _placed(value: Any) -> Any:
    if value == "adamw_8bit":
        raise ValueError("8-bit moments change the result, so they are set by update.optimizer=adamw_8bit")
    return value


class TrainerPlacement(Config):
    """How the update uses the machine."""

    tokens: PositiveInt = 8192
    """Number of tokens per forward and backward pass: as many whole groups as fit, each its prompt once and its
    captions. A larger group is divided and repeats its prompt; only a single caption may exceed the number. Memory
    grows with it, and the result does not depend on it."""
    attention: Literal["auto", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3"] = "auto"
    """How attention is computed, by the names of transformers. auto: on GPUs flex_attention in the language model and,
    where it is installed, flash attention in the vision tower; elsewhere sdpa. With flash attention throughout, the
    captions of a group cannot share a pass over their prompt."""
    optimizer: Annotated[Literal["adamw", "offload"], BeforeValidator(_placed)] = "adamw"
    """Where AdamW's moments are: beside the weights, or (offload) in main memory, from where they come for each step.
    The result is the same."""
    gpus: Gpus = ()
    """Numbers of the GPUs to use, a process for each; empty: the run's own process trains on `runtime.device`."""
    processes: PositiveInt | None = None
    """Number of processes that train together; None: one for each of `gpus`. On CPUs, this number decides."""
    shard: Literal["none", "ddp", "fsdp"] = "none"
    """What each of several processes holds: ddp: all weights; fsdp: its share of them (FSDP2)."""
    hybrid: PositiveInt | None = None
    """With fsdp: number of processes among which one copy of the weights is divided; None: all. Between copies, only
    gradients travel, so that a copy is best kept within a node."""

    @model_validator(mode="after")
    def possible(self) -> Self:
        """Raises ValueError where the numbers do not go together."""
        if self.gpus and self.processes not in (None, len(self.gpus)):
            raise ValueError(f"processes: {self.processes} do not fit {len(self.gpus)} gpus; give one of the two")
        if self.world > 1 and self.shard == "none":
            raise ValueError(f"shard: {self.world} processes need ddp or fsdp, not none")
        if self.world > 1 and self.optimizer == "offload":
            raise ValueError("optimizer: offload works in one process only; fsdp divides the moments among GPUs")
        if self.hybrid and self.shard != "fsdp":
            raise ValueError("hybrid: needs shard: fsdp")
        if self.hybrid and self.world % self.hybrid:
            raise ValueError(f"hybrid: {self.world} processes cannot be divided into copies of {self.hybrid}")
        return self

    @property
    def world(self) -> int:
        """Number of processes."""
        return self.processes or max(1, len(self.gpus))

    @property
    def inline(self) -> bool:
        """Does the run's own process train?"""
        return not self.gpus and self.processes is None

    @property
    def shards(self) -> int:
        """Number of processes among which one copy of the weights is divided."""
        return (self.hybrid or self.world) if self.shard == "fsdp" else 1


MirrorName = Literal["tensorboard", "wandb"]


class Runtime(Config):
    """Where and how fast a recipe runs. Changes no digest and no cache key."""

    captioner: EnginePlacement = EnginePlacement()
    """Placement of the captioner's engine."""
    reasoner: EnginePlacement = EnginePlacement()
    """Placement of the reasoner's engine."""
    reasoners: dict[str, EnginePlacement] = Field(default_factory=dict)
    """Placement of reasoners that are somewhere else, by the last part of their models' names; those that are not
    named: as `reasoner` says."""
    judges: dict[str, EnginePlacement] = Field(default_factory=dict)
    """Placement of the engines of judges, by their names in `judges`; those that are not named: the defaults."""
    cluster: Cluster = LocalCluster()
    """The machines: this one alone, or the nodes of a Ray cluster. See docs/scaling.md."""
    streaming: bool = True
    """Ask the reasoner about each caption as soon as it is finished, if the reasoner runs in another process."""

    device: str = "auto"
    """Device of the trainer and of engines in the run's process: cpu, cuda, cuda:1 ... auto: the first GPU, or the CPU
    if there is none."""
    caption_batch: PositiveInt = 16
    """Number of problems per call of the captioner's engine."""
    reason_batch: PositiveInt = 64
    """Number of prompts per call of the reasoner's engine."""
    trainer: TrainerPlacement = TrainerPlacement()
    """Where the update runs, and the size of its passes."""
    checkpoint_every: PositiveInt = 1
    """Number of iterations between two states of the trainer (weights, optimizer) that are written. Lost iterations
    between them are replayed from their stored rewards, without asking a model. The last iteration's is written too."""
    scratch: str | None = None
    """Folder of this machine for weights on their way from trainer to engines, for example /dev/shm. None: a folder of
    this machine's state (`.racro`, or `RACRO_HOME`)."""
    gradient_checkpointing: bool = True
    """Recompute activations in the backward pass: about a third more computation, much less memory."""
    request_deadline: Seconds = 1800.0
    """Seconds that one call of an engine may take. Texts unfinished by then count as failed and stay unscored."""
    cache: Annotated[float, Field(gt=0)] = 100.0
    """GiB of local disk for downloads from a remote root: policies, images."""
    retries: Annotated[int, Field(ge=0)] = 2
    """How often a stage is retried after a failure that may be transient (storage, lost engine)."""
    retry_delay: Annotated[float, Field(ge=0)] = 5.0
    """Seconds before the first retry; doubled for each further one."""
    renewal: Share = 0.1
    """Largest share of a training's time in which what people look at is renewed: report, curve and captions. 1: after
    each iteration; 0: only at the end."""
    mirrors: tuple[MirrorName, ...] = ()
    """Where metrics go beside MLflow: tensorboard (event files under `.racro/tensorboard`), wandb (offline under
    `.racro/wandb` unless an account is set up)."""
    timeouts: Timeouts = Timeouts()
    """Time limits of stages."""

    @model_validator(mode="after")
    def _no_numbers_of_gpus_on_a_cluster(self) -> Self:
        if self.cluster.type == "local":
            return self
        single = {"captioner": self.captioner, "reasoner": self.reasoner}
        given = {role: place.gpus for role, place in single.items() if place.cluster} | {"trainer": self.trainer.gpus}
        for group, places in ((REASONERS, self.reasoners), (JUDGES, self.judges)):
            given |= {f"{group}{name}": place.gpus for name, place in places.items() if place.cluster}
        for role, gpus in given.items():
            if gpus:
                remedy = "give trainer.processes" if role == "trainer" else "give tensor_parallel and data_parallel"
                raise ValueError(f"{role}.gpus: on a cluster Ray chooses the GPUs; {remedy}, and leave gpus out")
        return self

    def role_of(self, reasoner: Reasoner) -> str:
        """The role under which a reasoner is placed: reasoners.NAME if it has a place of its own, or reasoner."""
        name = reasoner.model.rstrip("/").rpartition("/")[2]
        return f"{REASONERS}{name}" if name in self.reasoners else "reasoner"

    def place(self, role: str) -> EnginePlacement:
        """Where the engine of a role runs: captioner, reasoner, reasoners.NAME, or judges.NAME."""
        group, _, name = role.partition(".")
        found: EnginePlacement | Mapping[str, EnginePlacement] = getattr(self, group)
        return found if isinstance(found, EnginePlacement) else found.get(name, EnginePlacement())

    def placed(self, role: str, place: EnginePlacement) -> Self:
        """The same with another place for the engine of a role."""
        group, _, name = role.partition(".")
        return self.model_copy(update={group: {**getattr(self, group), name: place} if name else place})

    def clustered(self, role: str) -> bool:
        """Does the engine of a role run on a cluster's nodes, if it is not behind a URL?"""
        return self.cluster.type != "local" and self.place(role).cluster
