"""The data path: each image is decoded a few times at most, one bin ahead, and memory is bounded by bins."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from racro.data.images import BadImage
from racro.models.folders import EMBEDDED
from racro.schema import ImageRef
from racro.training import feed, prompts, replay
from racro.training.bins import Bin, Lengths, deal
from racro.training.feed import Feed
from racro.training.grouped import Packed
from racro.training.passes import Prepared
from tests.support.tiny_training import TinyTraining

CAPTIONER = EMBEDDED / "captioner"


def prepared(pixel_bytes: int = 1) -> Prepared:
    return Prepared(Packed({}, torch.zeros(0), torch.zeros(0)), (), [], pixel_bytes)


def bins(count: int) -> list[Bin]:
    """Bins of one row each."""
    (found,) = deal({i: Lengths(10, (count - i,)) for i in range(count)}, 1, 1)
    assert len(found) == count
    return found


def test_the_next_bin_is_prepared_while_the_current_one_is_used_and_no_other() -> None:
    order = bins(5)
    made: list[Bin] = []
    second = threading.Event()

    def prepare(what: Bin) -> Prepared:
        made.append(what)
        if what == order[1]:
            second.set()
        return prepared()

    source = Feed(prepare, order)
    source.take()
    assert second.wait(60)  # though nobody has asked for it
    assert source.following and source.following() is not None
    assert made == order[:2]
    for _ in order[1:]:
        source.take()
    assert made == order
    source.close()
    assert not any(thread.name.startswith("racro-bins") for thread in threading.enumerate())


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize(("keep", "decoded", "peak"), [(10**9, 3, 21), (7, 5, 21), (0, 6, 14)])
def test_bins_that_are_used_again_are_kept_as_long_as_they_fit(keep: int, decoded: int, peak: int, ahead: bool) -> None:
    order = bins(3)
    made: list[Bin] = []

    def prepare(what: Bin) -> Prepared:
        made.append(what)
        return prepared(pixel_bytes=7)

    source = Feed(prepare, [*order, *order], keep, ahead)
    for _ in range(6):
        source.take()
    source.close()
    assert len(made) == decoded
    assert source.pixel_bytes_peak == peak


def test_what_goes_wrong_in_the_thread_is_raised_where_the_bin_is_taken() -> None:
    def prepare(what: Bin) -> Prepared:
        raise BadImage("missing.png: no such image")

    source = Feed(prepare, bins(2))
    with pytest.raises(BadImage, match="no such image"):
        source.take()
    source.close()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyTraining:
    made = TinyTraining(CAPTIONER, tmp_path_factory.mktemp("problems"))
    rows = made.rollouts(CAPTIONER)
    made.rollouts = lambda policy: rows  # type: ignore[method-assign]
    return made


@pytest.mark.parametrize(("kept", "tokens", "most"), [(feed.KEPT, 8192, 2), (0, 8192, 3), (0, 1, 3)])
def test_an_update_decodes_an_image_three_times_at_most(
    tiny: TinyTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int, tokens: int, most: int
) -> None:
    """For old log-probs, for a step, and in the longest group, on which both ways are compared; in any bins."""
    opened: Counter[str] = Counter()

    def counted(ref: ImageRef, base: str) -> Any:
        opened[ref.path] += 1
        return open_image(ref, base)

    open_image = prompts.open_image
    monkeypatch.setattr(prompts, "open_image", counted)
    monkeypatch.setattr(replay, "Feed", lambda prepare, order, ahead: Feed(prepare, order, kept, ahead))
    metrics = tiny.update(tmp_path / "policy", mini_batch=2, tokens=tokens)
    assert metrics["steps"] == 2
    assert len(opened) == 6
    assert max(opened.values()) <= most
    assert metrics["decodes_per_image"] == sum(opened.values()) / len(opened)


def test_pixels_in_memory_are_those_of_two_bins(
    tiny: TinyTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All images of the iteration are in one bin, or those of one group."""
    monkeypatch.setattr(replay, "Feed", lambda prepare, order, ahead: Feed(prepare, order, 0, ahead))
    whole = tiny.update(tmp_path / "whole", mini_batch=4, tokens=10**6)
    parts = tiny.update(tmp_path / "parts", mini_batch=4, tokens=1)
    pair = 2  # images of the largest group
    assert whole["pixel_bytes_peak"] / 6 * pair * 2 == parts["pixel_bytes_peak"]


def test_one_long_caption_costs_its_own_tokens_only() -> None:
    """Twenty times the usual length: it pads no other group."""
    usual = {i: Lengths(80, (10,) * 8) for i in range(50)}
    long = usual | {7: Lengths(80, (200, *(10,) * 7))}
    before, after = (sum(bin.tokens for bin in deal(groups, 1, 2000)[0]) for groups in (usual, long))
    assert after - before == 190
