"""Parts of a model, found by its structure: a captioner's vision tower and merger, and the layers of any model.

`update.freeze` leaves tower or merger untrained. The tower is what transformers calls the encoder of images. The merger
turns what the tower sees into tokens of the language model: either what is neither tower nor language model, or, in
families whose tower contains it, the tower's parts of that name. Called by the update, and before anything runs on a
model without weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from racro.config import Part
from racro.errors import BadInput
from racro.models import making
from racro.models.adapters import Adapter
from racro.models.folders import base_folder

if TYPE_CHECKING:
    from torch.nn import Module, Parameter


class NoSuchPart(BadInput):
    """A part that is to be frozen and that the model does not have, or that an adapter leaves alone anyway."""


def parts(model: Any) -> dict[Part, list[Parameter]]:
    """Parameters of vision tower and merger; a part that is not found has none.

    model: without wrappers of PEFT or accelerate.
    """
    tower, decoder = model.get_encoder(modality="image"), model.get_decoder()
    if tower is model or tower is decoder:
        return {"vision": [], "merger": []}
    known = {id(value) for part in (tower, decoder, model.get_output_embeddings()) for value in part.parameters()}
    between = [value for value in model.parameters() if id(value) not in known]
    if not between:
        between = [v for name, child in tower.named_children() if "merger" in name for v in child.parameters()]
    merger = {id(value) for value in between}
    return {"vision": [value for value in tower.parameters() if id(value) not in merger], "merger": between}


def layers(model: Module) -> Iterator[Module]:
    """The members of the model's outermost lists of modules: the layers of its towers, whatever their class."""
    from torch.nn import ModuleList

    for child in model.children():
        if isinstance(child, ModuleList):
            yield from (layer for layer in child if any(True for _ in layer.parameters()))
        else:
            yield from layers(child)


def freeze(model: Any, names: tuple[Part, ...]) -> None:
    """Have these parts get no gradients. Raises NoSuchPart."""
    for name in names:
        if not (found := parts(model)[name]):
            raise NoSuchPart(
                f"update.freeze: {name}: {type(model).__name__} has no part that can be recognised as such; leave it "
                "out"
            )
        for value in found:
            value.requires_grad = False


def require(folder: Path, names: tuple[Part, ...]) -> None:
    """Can these parts of the model in `folder` be frozen? Loads no weights. Raises NoSuchPart."""
    if not names:
        return
    if Adapter.read(folder):
        raise NoSuchPart("update.freeze: captioner.model is an adapter, which never changes these parts; leave it out")
    from transformers import AutoConfig, AutoModelForImageTextToText

    model = making.without_weights(AutoModelForImageTextToText, AutoConfig.from_pretrained(base_folder(folder)))
    freeze(model, names)
