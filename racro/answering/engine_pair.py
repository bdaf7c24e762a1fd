"""Captioner and reasoner by name, by section of a recipe or as open engines -> the two engines that answer.

Called by `racro.answering.pipeline`.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from racro import config
from racro.engines.opening import open_captioner, open_reasoner
from racro.engines.protocol import Engine, Role
from racro.models import compatibility
from racro.models.folders import ModelNotFound, base_folder, model_folder
from racro.models.pixels import UNLIMITED

logger = logging.getLogger(__name__)

LONGEST = 8192
"""Tokens of a caption, an attempt or an answer, where the model has room for them."""
SHARED = 0.45
"""Of a GPU's memory, for either of two engines on it."""


@dataclass(frozen=True)
class Model:
    """A role's model, found but not loaded; or an engine that was given open."""

    role: Role
    section: config.Captioner | config.Reasoner | None
    folder: str | None = None
    """None where only an endpoint or a script knows the model."""
    engine: Engine | None = None
    here: bool = False
    """Does it take memory of this machine?"""

    def room(self, engine: Engine) -> int:
        """Tokens that a text may have: the joint prompt holds two of them, and a third has to follow."""
        positions = [engine.positions, getattr(self.section and self.section.engine, "max_model_len", None)]
        if self.folder is not None:
            checkpoint = _checkpoint(self.folder)
            positions.append(checkpoint.get("text_config", checkpoint).get("max_position_embeddings"))
        return min([LONGEST, *(known // 4 for known in positions if known)])

    def seat(self, runtime: config.Runtime) -> Role:
        """The role under which its engine is placed."""
        return runtime.role_of(self.section) if isinstance(self.section, config.Reasoner) else self.role

    def place(self, runtime: config.Runtime) -> config.EnginePlacement:
        """Where its engine runs."""
        return runtime.place(self.seat(runtime))

    def open(self, runtime: config.Runtime, log: Path | None) -> Engine:
        """The engine, opened now. Raises EngineLost."""
        if self.engine is not None:
            return self.engine
        if isinstance(self.section, config.Captioner):
            return open_captioner(self.section, self.folder or "", runtime, log)
        assert self.section is not None
        return open_reasoner(self.section, self.folder or "", runtime, log)


def named(role: Role, model: str, engine: config.EngineChoice | None = None) -> config.Captioner | config.Reasoner:
    """A model by its name, as the section of a recipe would have it, in the precision of its checkpoint.

    Raises ModelNotFound.
    """
    dtype = _checkpoint(str(model_folder(model, role))).get("dtype", "bfloat16")
    section = config.Captioner if role == "captioner" else config.Reasoner
    return section(
        model=model,
        dtype=dtype if dtype in get_args(config.DType) else "bfloat16",
        engine=engine or config.Transformers(),
    )


def resolve(role: Role, given: str | config.Captioner | config.Reasoner | Engine, runtime: config.Runtime) -> Model:
    if isinstance(given, str):
        given = named(role, given)
    if not isinstance(given, config.Captioner | config.Reasoner):
        return Model(role, None, engine=given)
    named_only = Model(role, given)
    if given.engine.type == "scripted" or (given.engine.type == "server" and named_only.place(runtime).urls):
        return named_only
    folder = model_folder(given.model, role, given.revision)
    pixels = given.pixels if isinstance(given, config.Captioner) else UNLIMITED
    if note := compatibility.check(role, given.model, folder, given.template_kwargs, pixels):
        logger.warning("%s: %s", role, note)
    return Model(role, given, str(folder), here=True)


def _checkpoint(folder: str) -> dict[str, Any]:
    """config.json of a model folder; older files say `torch_dtype`."""
    file = base_folder(Path(folder)) / "config.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {"dtype": content.get("torch_dtype", "bfloat16"), **content}
    except (ValueError, AttributeError) as error:
        raise ModelNotFound(f"{file} is no model's configuration ({error}); get the model again") from error


def shared(runtime: config.Runtime, captioner: Model, reasoner: Model) -> config.Runtime:
    """Two engines that are started on the same GPUs get less than half of their memory each."""
    first, second = (model.place(runtime) for model in (captioner, reasoner))
    disjoint = first.gpus and second.gpus and {*first.gpus}.isdisjoint(second.gpus)  # none named: all, for both
    if disjoint or not (captioner.here and reasoner.here):
        return runtime
    for model, place in ((captioner, first), (reasoner, second)):
        less = place.model_copy(update={"gpu_memory": min(SHARED, place.gpu_memory)})
        runtime = runtime.placed(model.seat(runtime), less)
    return runtime
