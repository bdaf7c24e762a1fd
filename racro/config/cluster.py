"""Recipe section `runtime.cluster`: this machine alone, or several of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from racro.config.base import Config, Seconds


class LocalCluster(Config):
    """This machine alone."""

    type: Literal["local"] = "local"


class RayCluster(Config):
    """A Ray cluster: each copy of an engine and each process of the trainer is an actor on one of its nodes."""

    type: Literal["ray"]
    address: str = "auto"
    """auto: the cluster that this machine is part of; local: one that is started here, of this machine alone; otherwise
    HOST:PORT of its head, or ray://HOST:PORT for a machine that is no part of it."""
    namespace: str = "racro"
    """Ray's namespace for the actors, which have their run's name besides."""
    strategy: Literal["pack", "spread"] = "pack"
    """Copies of an engine, and processes of the trainer: on as few nodes as possible, or on as many."""
    cpus: Annotated[float, Field(gt=0)] = 1.0
    """CPUs that each copy and each process of the trainer reserves. It does not limit their threads."""
    resources: dict[str, dict[str, Annotated[float, Field(gt=0)]]] = Field(default_factory=dict)
    """More of Ray's resources that each copy of a role (captioner, reasoner, reasoners.NAME, judges.NAME, trainer)
    reserves, such as `{captioner: {"accelerator_type:H100": 0.01}}`."""

    @field_validator("resources")
    @classmethod
    def _roles(cls, given: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        """Another name would reserve nothing, without a word."""
        for name in given:
            if name not in ("captioner", "reasoner", "trainer") and not name.startswith(("reasoners.", "judges.")):
                raise ValueError(f"{name} is no role; name captioner, reasoner, reasoners.NAME, judges.NAME or trainer")
        return given

    lease: Seconds = 180.0
    """Seconds after which actors end when the run that uses them does not renew its lease. A run that is started again
    within this time finds its engines as they were."""
    files: Literal["auto", "copied"] = "auto"
    """How nodes get weights: auto: where they see the run's folder and its content is right, as it is, otherwise as a
    copy through Ray's object store; copied: always."""
    scratch: str | None = None
    """Folder of each node for copies of weights and for logs; None: one in its folder for temporary files."""
    cache: Annotated[float, Field(gt=0)] = 200.0
    """GiB of each node's disk for copies of weights."""


Cluster = Annotated[LocalCluster | RayCluster, Field(discriminator="type")]
