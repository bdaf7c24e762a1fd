"""An exported captioner is a plain Hugging Face folder: it answers as ours does, and its card's example runs."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from racro.config import Lora, loading
from racro.embedded import world
from racro.embedded.world import CELL
from racro.models import adapters
from racro.models.adapters import Adapter
from racro.models.export import CannotExport, export
from racro.models.folders import EMBEDDED, load_captioner, load_processor, torch_device
from racro.prompts import caption_messages
from racro.reports import card
from racro.storage import artifacts
from racro.summary import PolicyRef, Score, StageTotal, Summary
from tests.conftest import EMBEDDED_RECIPE

CAPTIONER = EMBEDDED / "captioner"
CPU = torch_device("cpu")
PROBLEM = world.problem("heldout", 0, 0)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the embedded captioner that changes what it says."""
    from peft import get_peft_model

    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(3)
    model = load_captioner(CAPTIONER, "float32", CPU)
    adapted = get_peft_model(model, adapters.fresh(Lora(rank=4, alpha=8), model))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    adapters.save(adapted, folder, "embedded", None)
    (folder / "record.json").write_text("{}")
    return folder


def logits(model: Any) -> torch.Tensor:
    """Of the embedded world's first caption prompt."""
    processor = load_processor(CAPTIONER)
    text = processor.apply_chat_template(caption_messages(PROBLEM.question, 1), add_generation_prompt=True)
    inputs = processor(images=[PROBLEM.images()[0]], text=[text], return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).logits.float()


def plain(folder: Path) -> Any:
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(folder, dtype="auto").eval()


def test_a_whole_model_is_copied_without_what_is_ours(tmp_path: Path) -> None:
    source = tmp_path / "policy"
    source.mkdir()
    for file in CAPTIONER.iterdir():
        (source / file.name).write_bytes(file.read_bytes())
    (source / "trainer").mkdir()
    for ours in ("record.json", "lineage.json"):
        (source / ours).write_text("{}")
    (source / "model.safetensors").chmod(0o600)  # as safetensors writes it
    export(source, tmp_path / "out")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {file.name for file in CAPTIONER.iterdir()}
    assert len({file.stat().st_mode for file in (tmp_path / "out").iterdir()}) == 1, "who may read one may read all"
    assert torch.equal(logits(plain(tmp_path / "out")), logits(plain(CAPTIONER)))


def test_in_half_precision_it_has_half_the_size(tmp_path: Path) -> None:
    export(CAPTIONER, tmp_path, dtype="bfloat16")
    weights = load_file(tmp_path / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
    difference = (logits(plain(tmp_path)) - logits(plain(CAPTIONER))).abs().max()
    assert difference < 0.5


@pytest.mark.parametrize("merge", [False, True], ids=["adapter", "merged"])
def test_an_adapter_says_the_same_alone_and_merged(adapter: Path, tmp_path: Path, merge: bool) -> None:
    ours = logits(load_captioner(adapter, "float32", CPU))
    assert (ours - logits(plain(CAPTIONER))).abs().max() > 0.1
    export(adapter, tmp_path, merge=merge)
    assert (tmp_path / "adapter_config.json").exists() != merge
    assert not (tmp_path / "record.json").exists()
    if merge:
        theirs = logits(plain(tmp_path))
    else:
        from peft import PeftModel

        theirs = logits(PeftModel.from_pretrained(plain(Path(Adapter.read(tmp_path).base)), tmp_path))  # type: ignore[union-attr]
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)


def test_a_merged_model_sees_images_as_large_as_its_adapter_did(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limits are in the record of the training; the adapter's model does not know them."""
    limits = {"min_pixels": None, "max_pixels": 2 * CELL * CELL}
    monkeypatch.setattr(artifacts, "known_record", lambda _: SimpleNamespace(inputs={"captioner": limits}))
    export(adapter, tmp_path / "merged", merge=True)
    image = Image.new("RGB", (4 * CELL, CELL))

    def tokens(processor: Any) -> int:
        encoded = processor(images=[image], text=[processor.image_token], return_tensors="pt")
        return int(encoded["input_ids"].shape[1])

    trained = load_processor(EMBEDDED / "captioner", (None, 2 * CELL * CELL))
    assert (
        tokens(load_processor(tmp_path / "merged")) == tokens(trained) < tokens(load_processor(EMBEDDED / "captioner"))
    )


def test_what_cannot_be_done_is_said_before_anything_is_written(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(CannotExport, match="--merge"):
        export(CAPTIONER, tmp_path / "a", merge=True)
    with pytest.raises(CannotExport, match="--dtype"):
        export(adapter, tmp_path / "a", dtype="bfloat16")
    assert not (tmp_path / "a").exists()
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(CannotExport, match="is not empty"):
        export(CAPTIONER, tmp_path)
    assert (tmp_path / "mine").read_text() == "precious"


# --- the model card ---------------------------------------------------------------------------------------------------


def summary() -> Summary:
    score = Score(accuracy=0.25, stderr=0.05, n=64, truthful=None, states_asked=None, leaks=None)
    return Summary(
        run="r",
        recipe_digest="d" * 64,
        seed=7,
        iterations=3,
        optimizer_steps=11,
        base=score,
        final=score.model_copy(update={"accuracy": 0.75}),
        policy=PolicyRef(uri="somewhere", digest="e" * 64),
        stages={"update": StageTotal(seconds=1.0, executed=3, cached=0)},
        seconds=1.0,
        prefect_flow_run_id="f",
        mlflow_run_id="m",
    )


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page, re.DOTALL)


@pytest.mark.parametrize("kind", ["whole", "adapter"])
def test_the_example_of_the_card_writes_the_captioners_caption(
    kind: str, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from racro.engines.local.transformers import TransformersEngine
    from racro.engines.protocol import Prompt, Sampling
    from tests.support.asking import generations

    source = adapter if kind == "adapter" else CAPTIONER
    export(source, tmp_path / "out")
    recipe = loading.load(EMBEDDED_RECIPE)
    page = card.render("e" * 64, str(tmp_path / "out"), Adapter.read(tmp_path / "out"), summary(), recipe)
    monkeypatch.chdir(tmp_path)
    PROBLEM.images()[0].save("image.png")
    exec(compile(blocks(page)[0], "README.md", "exec"), {})
    engine = TransformersEngine.captioner(str(source), "float32", "cpu", batch=1)
    prompt = Prompt(caption_messages("What is the height of the green bar?", 1), tuple(PROBLEM.images()[:1]))
    how = Sampling(temperature=0.0, max_tokens=recipe.rollout.max_tokens)
    [generation] = generations(engine, [prompt], how, [0])
    assert capsys.readouterr().out.strip().splitlines()[-1] == generation.completions[0].text.strip().splitlines()[-1]


def test_the_card_has_figures_with_errors_and_says_what_is_not_known() -> None:
    recipe = loading.load(EMBEDDED_RECIPE)
    page = card.render("e" * 64, "folder", None, summary(), recipe)
    assert "| before training | 25.0 ± 5.0 % | 64 |" in page
    assert "| after 3 iterations, 11 optimizer steps | 75.0 ± 5.0 % | 64 |" in page
    assert "e" * 64 in page and "learning_rate" in page
    unknown = card.render("e" * 64, "folder", None, None, None)
    assert "Not known" in unknown and "unknown" in unknown
    for text in (page, unknown):
        header = text.split("---")[1]
        assert "library_name: transformers" in header and "\\boxed{}" in text
        assert len(blocks(text)) == 2
