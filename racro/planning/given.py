"""Files that the user of a plan gives: the machines (`--cluster`), and what work is and costs there (`--rates`)."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import Field, PositiveInt, ValidationError, model_validator

from racro.config.base import Config
from racro.errors import BadInput

Positive = Annotated[float, Field(gt=0)]
Efficiency = Annotated[float, Field(gt=0, le=1)]
C = TypeVar("C", bound=Config)

KNOWN: dict[str, tuple[float, float, float, float]] = {
    "A100-40": (40, 312, 1555, 300),
    "A100": (80, 312, 2039, 300),
    "L40S": (48, 362, 864, 32),
    "H100": (80, 989, 3350, 450),
    "H200": (141, 989, 4800, 450),
    "B200": (180, 2250, 8000, 900),
}
"""Memory in GB, dense bfloat16 TFLOP/s, memory bandwidth in GB/s, bandwidth to its neighbours in GB/s in one direction:
from the data sheets of their vendor."""


class BadFile(BadInput):
    """A file of a plan that cannot be read or does not hold together."""


class Gpus(Config):
    """Nodes that are alike, and their GPUs."""

    nodes: PositiveInt = 1
    """Number of nodes."""
    gpus: PositiveInt = 8
    """GPUs of each node."""
    gpu: str | None = None
    """A known GPU by name; the four keys below it say otherwise, or describe an unknown one."""
    memory: Positive | None = None
    """Of a GPU, in GB."""
    tflops: Positive | None = None
    """Dense bfloat16 matrix products of a GPU, in TFLOP/s."""
    bandwidth: Positive | None = None
    """Of a GPU's memory, in GB/s."""
    link: Positive | None = None
    """From a GPU to another one of its node, in GB/s."""
    network: Positive = 50.0
    """From a GPU to one of another node, in GB/s."""
    storage: Positive = 2.0
    """To the root, in GB/s, all GPUs together."""

    @model_validator(mode="after")
    def _described(self) -> Gpus:
        if self.gpu is not None and self.gpu not in KNOWN:
            raise ValueError(f"gpu: {self.gpu} is not known; give one of {', '.join(KNOWN)}, or its numbers")
        numbers = ("memory", "tflops", "bandwidth", "link")
        if missing := [name for name in numbers if self.gpu is None and getattr(self, name) is None]:
            raise ValueError(f"{', '.join(missing)}: give it, or the name of a known gpu ({', '.join(KNOWN)})")
        return self

    @property
    def count(self) -> int:
        """Of all nodes."""
        return self.nodes * self.gpus

    @property
    def bytes(self) -> float:
        """Memory of a GPU."""
        return (self.memory or self._known(0)) * 1e9

    @property
    def flops(self) -> float:
        """Operations a second."""
        return (self.tflops or self._known(1)) * 1e12

    @property
    def reads(self) -> float:
        """Bytes a second, from its memory."""
        return (self.bandwidth or self._known(2)) * 1e9

    def between(self, gpus: int) -> float:
        """Bytes a second from one of so many GPUs to another."""
        return (self.link or self._known(3)) * 1e9 if gpus <= self.gpus else self.network * 1e9

    def _known(self, number: int) -> float:
        return KNOWN[self.gpu or ""][number]


class Lengths(Config):
    """Tokens of what models read and write, on average. None: the recipe's limit, which is too much."""

    prompt: PositiveInt = 1200
    """Prompt of the captioner, image included."""
    caption: PositiveInt | None = None
    """Caption, or own answer."""
    question: PositiveInt = 200
    """Prompt of reasoner and judges without the caption."""
    answer: PositiveInt | None = None
    """Answer of the reasoner."""
    judgement: PositiveInt | None = None
    """Answer of a judge, or of the policy about its own caption."""


class Rates(Config):
    """What is known or taken for granted about the work and the machines."""

    lengths: Lengths = Lengths()
    """Tokens."""
    informative: Efficiency = 0.5
    """Share of groups that carry a gradient and are trained on."""
    train: Efficiency = 0.35
    """Share of a GPU's TFLOP/s that the update reaches."""
    prefill: Efficiency = 0.4
    """The same, while prompts are read."""
    decode: Efficiency = 0.5
    """Share of a GPU's memory bandwidth that decoding reaches."""
    cache: Efficiency = 0.6
    """Share of the memory beside the weights that holds keys and values."""


def cluster(file: Path) -> Gpus:
    """The machines of a file. Raises BadFile."""
    return _read(file, _content(file), Gpus)


def rates(file: Path | None) -> Rates:
    """The rates of a file, YAML or the gpu.json of `make bench-gpu`. Raises BadFile."""
    if file is None:
        return Rates()
    content = _content(file)
    if "rows" in content:
        content = _benchmark(file, content["rows"])
    return _read(file, content, Rates)


def _benchmark(file: Path, rows: Any) -> dict[str, Any]:
    """What a benchmark says about the update."""
    try:
        found = [row["figures"]["of_peak"] for row in rows if "update" in row["what"] and "of_peak" in row["figures"]]
        return {"train": round(statistics.median(found), 4)}
    except (TypeError, KeyError, statistics.StatisticsError) as error:
        raise BadFile(f"{file}: no row of an update with of_peak; give the gpu.json of `make bench-gpu`") from error


def _content(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadFile(f"{file}: cannot be read ({error}); correct the path") from error
    except yaml.YAMLError as error:
        raise BadFile(f"{file}: is no YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise BadFile(f"{file}: give keys with values, for example `nodes: 4`")
    return content


def _read(file: Path, content: dict[str, Any], model: type[C]) -> C:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        known = f"; known keys: {', '.join(model.model_fields)}" if first["type"] == "extra_forbidden" else ""
        said = first["msg"].removeprefix("Value error, ")
        raise BadFile(f"{file}: {f'{place}: ' if place else ''}{said}{known}") from error
