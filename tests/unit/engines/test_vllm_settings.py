"""What vLLM is handed, as a library and as a server, and how it sleeps. Without vLLM, which has its own tests."""

from __future__ import annotations

import itertools
import json
import threading
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from racro.config import Captioner, EnginePlacement, Lora, Reasoner, Runtime, Server, Vllm
from racro.engines import opening
from racro.engines.balanced import Balanced
from racro.engines.protocol import Engine
from racro.engines.vllm import core, server
from racro.engines.vllm.core import Core, arguments
from racro.engines.vllm.engine import VllmEngine
from racro.errors import BadInput
from racro.models import pixels
from racro.models.folders import EMBEDDED, load_processor
from tasks.running import engines as cached
from tests.support.fake_gpus import Machine

CAPTIONER = str(EMBEDDED / "captioner")


def options(config: Captioner | Reasoner, place: EnginePlacement) -> dict[str, str]:
    """Of a server's command line."""
    role: Literal["captioner", "reasoner"] = "captioner" if isinstance(config, Captioner) else "reasoner"
    line = server.command(role, config, CAPTIONER, place, False, "name", 1, None)
    return {one.removeprefix("--"): other for one, other in itertools.pairwise(line) if one.startswith("--")}


def test_step_size_and_cache_precision_are_handed_over_by_vllms_names() -> None:
    place = EnginePlacement(max_num_batched_tokens=4096)
    given = arguments("folder", "bfloat16", Vllm(kv_cache_dtype="fp8"), place, None, None, False)
    assert given["max_num_batched_tokens"] == 4096 and given["kv_cache_dtype"] == "fp8"
    assert given["mm_processor_kwargs"] is None and given["limit_mm_per_prompt"] == {}
    said = options(Reasoner(engine=Server(kv_cache_dtype="fp8_e5m2")), place)
    assert said["kv-cache-dtype"] == "fp8_e5m2" and said["max-num-batched-tokens"] == "4096"
    plain = options(Reasoner(engine=Server()), EnginePlacement())
    assert plain["kv-cache-dtype"] == "auto"
    assert not {"max-num-batched-tokens", "mm-processor-kwargs"} & plain.keys()


def test_limits_on_the_size_of_images_are_handed_over_as_the_processor_has_them() -> None:
    limits = (None, 28 * 28 * 2)
    processor = load_processor(EMBEDDED / "captioner", limits)
    expected = {"images_kwargs": {"size": {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 2}}}
    assert pixels.arguments(processor, limits) == expected
    given = arguments("folder", "float32", Vllm(), EnginePlacement(), expected, None, False)
    assert given["mm_processor_kwargs"] == expected and given["limit_mm_per_prompt"]["image"] == core.IMAGES
    said = options(Captioner(engine=Server(), max_pixels=28 * 28 * 2), EnginePlacement())
    assert json.loads(said["mm-processor-kwargs"]) == expected
    elsewhere = Runtime(captioner=EnginePlacement(urls=("http://localhost:1/v1",)))
    with pytest.raises(BadInput, match=r"captioner\.max_pixels, min_pixels: http://localhost:1/v1 scales images as it"):
        opening.open_captioner(Captioner(engine=Server(), max_pixels=9999), "", elsewhere)


class Asleep:
    """vLLM's engine as far as sleeping goes: what it was told, and whether its weights are there."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def sleep(self, level: int) -> None:
        self.told.append(f"sleep {level}")

    def wake_up(self) -> None:
        self.told.append("wake")

    def collective_rpc(self, name: str, args: tuple[str]) -> list[dict[str, Any]]:
        self.told.append(f"load {args[0]}")
        return [{}]

    def reset_prefix_cache(self) -> bool:
        self.told.append("forget")
        return True

    def reset_mm_cache(self) -> None: ...

    def reset_encoder_cache(self) -> None: ...


@pytest.fixture
def sleeper(monkeypatch: pytest.MonkeyPatch) -> Core:
    monkeypatch.setattr(core, "checkpoint_sums", lambda folder, dtype: {})
    made: Core = object.__new__(Core)
    made.engine, made.folder, made.dtype = Asleep(), "first", "float32"  # type: ignore[assignment]
    made.asleep = made.discarded = made.on_cpu = False
    return made


def test_weights_that_are_replaced_are_not_kept_while_it_sleeps(sleeper: Core) -> None:
    """They go at level 2 and come from the new folder alone."""
    sleeper.sleep(True)
    sleeper.sleep(False)  # it sleeps already
    sleeper.load("second", {})
    sleeper.wake()
    assert sleeper.engine.told == ["sleep 2", "wake", "load second", "forget"]


def test_discarded_weights_that_are_needed_after_all_are_read_again(sleeper: Core) -> None:
    """An update without an informative group leaves the policy as it is: there is no swap."""
    sleeper.load("second", {})
    sleeper.sleep(True)
    sleeper.wake()
    sleeper.wake()
    assert sleeper.engine.told == ["load second", "forget", "sleep 2", "wake", "load second", "forget"]


def test_weights_that_stay_are_kept(sleeper: Core) -> None:
    sleeper.sleep(False)
    sleeper.wake()
    assert sleeper.engine.told == ["sleep 1", "wake"]


@pytest.mark.parametrize(("rank", "quantization"), [(8, None), (None, "fp8")])
def test_adapters_and_quantised_weights_do_not_replace_what_sleeps(rank: int | None, quantization: str | None) -> None:
    levels: list[bool] = []
    engine: VllmEngine = object.__new__(VllmEngine)
    engine.rank, engine.config = rank, Vllm(quantization=quantization)
    engine.core = SimpleNamespace(sleep=levels.append)  # type: ignore[assignment]
    engine.owner = SimpleNamespace(between_requests=lambda job: job())  # type: ignore[assignment]
    engine.sleep(discard=True)
    engine.rank, engine.config = None, Vllm()
    engine.sleep(discard=True)
    engine.sleep()
    assert levels == [False, True, False]


@pytest.mark.parametrize("lora", [None, Lora()])
def test_a_server_sleeps_the_same_way(lora: Lora | None) -> None:
    told: list[str] = []
    made: server.Server = object.__new__(server.Server)
    made.config, made.rank = Captioner(engine=Server(), lora=lora), lora and lora.rank
    made.place, made.cpu, made.asleep, made.discarded = EnginePlacement(), False, False, False
    made.turning = threading.Lock()
    made.endpoint = SimpleNamespace(  # type: ignore[assignment]
        folder="first",
        tell=lambda path, seconds: told.append(path),
        swap=lambda folder: told.append(f"load {folder}"),
        generate=lambda requests: iter(()),
    )
    made.sleep(discard=True)
    list(made.generate([]))
    made.sleep(discard=True)
    made.swap("second")
    list(made.generate([]))
    if lora:
        assert told == ["/sleep?level=1", "/wake_up"] * 2 + ["load second"]
    else:
        assert told == ["/sleep?level=2", "/wake_up", "load first", "/sleep?level=2", "/wake_up", "load second"]


class Sleeping(Engine):
    """Remembers how it was told to sleep."""

    def __init__(self) -> None:
        self.slept: list[bool] = []

    def sleep(self, discard: bool = False) -> None:
        self.slept.append(discard)


def test_before_an_update_only_the_captioners_weights_are_given_up(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through copies of an engine as well."""
    machine.gpus(80)
    copies, reasoner = [Sleeping(), Sleeping()], Sleeping()
    roles: dict[Any, Any] = {
        "captioner": SimpleNamespace(engine=Balanced(copies)),
        "reasoner": SimpleNamespace(engine=reasoner),
    }
    monkeypatch.setattr(cached, "_cached", roles)
    cached.make_room(Runtime())
    assert [copy.slept for copy in copies] == [[True], [True]] and reasoner.slept == [False]
