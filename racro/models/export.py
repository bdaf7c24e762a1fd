"""A captioner -> a standard Hugging Face folder, which transformers, PEFT and vLLM load by themselves.

Without the trainer's state and without our records, which hold paths of this machine. The page about it is
`racro.models.card`. Called by `flows.cli.exporting`.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

from racro.config import DType
from racro.errors import BadInput
from racro.models import adapters, pixels
from racro.models.folders import (
    LOADABLE,
    READER_SUFFIXES,
    base_folder,
    let_others_read,
    load_captioner,
    load_processor,
    torch_device,
)
from racro.storage import artifacts
from racro.storage.layout import LINEAGE, RECORD


class CannotExport(BadInput):
    """A captioner that cannot be written in the form that was asked for, or a place that is taken."""


def export(folder: Path, out: Path, merge: bool = False, dtype: DType | None = None) -> None:
    """Write the captioner in `folder` to `out`, which must be empty or new.

    folder: a model, or a LoRA adapter; an adapter stays one unless `merge` puts it into its model's weights. A model
    has tokenizer and processor beside it; those of an adapter are its model's. dtype: of the weights; None: as they
    are, float32 after a training. Raises CannotExport, BadAdapter.
    """
    adapter = adapters.Adapter.read(folder)
    if merge and adapter is None:
        raise CannotExport("--merge: this captioner is a whole model already; leave the option out")
    if dtype and adapter and not merge:
        raise CannotExport("--dtype: an adapter is kept in its own precision; give --merge too, or leave it out")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CannotExport(f"--out {out}: is not empty; name another folder")
    out.mkdir(parents=True, exist_ok=True)
    base = base_folder(folder)
    if merge or dtype:
        _converted(folder, out, dtype or "float32")
        _copy(base, out, READER_SUFFIXES)
        if adapter:
            _limit_pixels(folder, base, out)
    elif adapter:
        for name in (adapters.CONFIG, adapters.WEIGHTS):
            shutil.copyfile(folder / name, out / name)
        _name_base(out, base, adapter)
    else:
        _copy(folder, out, (*READER_SUFFIXES, *LOADABLE))


def _converted(folder: Path, out: Path, dtype: DType) -> None:
    """The whole model, with its adapter merged in, in one precision."""
    import torch

    if (adapter := adapters.Adapter.read(folder)) is None:
        model = load_captioner(folder, dtype, torch_device("cpu"))
    else:
        plain = load_captioner(base_folder(folder), "float32", torch_device("cpu"))  # sums of small changes need it
        model = adapters.attach(plain, adapter.folder).merge_and_unload()
        model = model.to(getattr(torch, dtype))
    model.save_pretrained(out)
    let_others_read(out)


def _limit_pixels(folder: Path, base: Path, out: Path) -> None:
    """Have a merged model see images as large as the adapter was trained with: its base does not know the limits."""
    record = None
    with contextlib.suppress(artifacts.BadArtifact):  # of somebody else's
        record = artifacts.known_record(str(folder))
    captioner = (record.inputs.get("captioner") or {}) if record else {}
    limits = captioner.get("min_pixels"), captioner.get("max_pixels")
    if limits != pixels.UNLIMITED:
        processor = load_processor(base)
        pixels.limit(processor, limits)
        pixels.write(out, processor, limits)


def _copy(source: Path, out: Path, suffixes: tuple[str, ...]) -> None:
    """Files with these suffixes that are not there yet; none of ours."""
    indexed = any(out.glob("*.safetensors"))
    for file in sorted(source.iterdir()):
        if file.suffix not in suffixes or file.name in (RECORD, LINEAGE) or (out / file.name).exists():
            continue
        if indexed and file.name.endswith(".index.json"):
            continue  # of shards that are elsewhere
        shutil.copyfile(file, out / file.name)


def _name_base(out: Path, base: Path, adapter: adapters.Adapter) -> None:
    """PEFT finds the model by the name in the adapter's configuration; `embedded` is a name for us alone."""
    if adapter.base != "embedded":
        return
    config = json.loads((out / adapters.CONFIG).read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = str(base)
    (out / adapters.CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
