"""What `racro serve` offers: which captioner a model's name means, which there are, and examples to begin with.

Not the server (`racro.serving`) and not the command (`flows.cli.serving`). A name says a captioner in the words of
`racro answer --policy`, but a client may name no folder and no URI.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flows import engine_pair
from flows.engine_pair import BadOption, Models
from racro import config
from racro.errors import BadInput
from racro.schema import CHAMPION, INITIAL
from racro.storage import layout
from racro.storage.files import in_time, opened, with_retries

if TYPE_CHECKING:
    from racro.answering.pipeline import Racro
    from racro.serving.panes import Content, Example

LOG = logging.getLogger(__name__)

FRESH = 30.0
"""Seconds for which the list of captioners is not made again."""
PATIENCE = 3.0
"""Seconds for MLflow, and for the store of the runs, to say what can be listed: a visitor waits."""
RUNS = 20
"""Finished trainings that are listed, the newest ones; others can be asked by name."""
EXAMPLES = 6


class Catalogue:
    """The captioners and reasoners that can be asked here."""

    def __init__(self, models: Models, reasoners: Sequence[str], recipe: config.Recipe | None) -> None:
        """`reasoners`: as the command line names them, the default first; empty: the recipe's. Raises BadOption."""
        self.models, self.recipe = models, recipe
        self.minds: dict[str, str | None] = {}
        """Name -> the model as the command line names it."""
        for model in reasoners or (None,):
            name = shown(model or (recipe.reasoner.model if recipe else "embedded"))
            if name in self.minds:
                raise BadOption(f"--reasoner {model}: another one is called {name} too; give each once")
            self.minds[name] = model
        self._lock = threading.Lock()
        self._listed: tuple[float, list[str]] = (-FRESH, [])

    def find(self, captioner: str, reasoner: str) -> Racro:
        """The pair that is meant, not loaded. Raises Unknown, BadInput; NoStore where nobody says who is champion."""
        from racro.serving.pairs import Unknown
        from tasks.recording.store import NoStore

        models = dataclasses.replace(self.models, reasoner=self.minds[reasoner])
        if captioner == INITIAL:
            models = dataclasses.replace(models, policy=INITIAL)
        elif captioner:
            if captioner != CHAMPION and not self._known(captioner):
                raise Unknown(f"{captioner}: no run under {models.root}, and no policy's digest")
            models = dataclasses.replace(models, policy=captioner, captioner=None, captioner_urls=())
        try:
            return engine_pair.open_racro(models, self.recipe)
        except BadInput as error:
            if not captioner or isinstance(error, NoStore):
                raise
            raise Unknown(str(error)) from error

    def captioners(self) -> list[str]:
        """Names besides the default: `initial`, `champion` if there is one, and finished trainings, newest first."""
        with self._lock:
            since, names = self._listed
            if time.monotonic() - since >= FRESH:
                names = [INITIAL, *([CHAMPION] if self._crowned() else []), *self._trainings()]
                self._listed = time.monotonic(), names
            return names

    def _known(self, name: str) -> bool:
        """Is this a run under the root, or the beginning of a digest? Nothing else is looked for: no folder."""
        from racro.storage import runs

        try:
            if runs.holder(self.models.root, name) is not None:
                return True
        except BadInput:
            return False
        if not set(name) <= set("0123456789abcdef"):
            return False
        from tasks.choose import DIGEST

        return DIGEST.fullmatch(name) is not None

    def _crowned(self) -> bool:
        place = os.environ.get("MLFLOW_TRACKING_URI", "")
        if place.startswith("sqlite:///") and not Path(place.removeprefix("sqlite:///")).exists():
            return False
        try:
            from tasks.choose import champion

            in_time(lambda: champion(self.recipe), PATIENCE)
        except Exception as error:  # none, several, or MLflow is away: then there is none to be listed
            LOG.info("no champion: %s", error)
            return False
        return True

    def _trainings(self) -> list[str]:
        try:
            fs, place = opened(layout.absolute(self.models.root))
            files = in_time(lambda: with_retries(lambda: fs.glob(f"{place}/*/summary.json", detail=True)), PATIENCE)
        except Exception as error:  # a store that is away costs the list only
            LOG.warning("the runs cannot be listed: %s", error)
            return []
        newest = sorted(
            files.values(), key=lambda file: str(file.get("mtime") or file.get("LastModified")), reverse=True
        )
        names = (file["name"].rpartition("/")[0].rpartition("/")[2] for file in newest)
        return [name for name in names if self._trained(name)][:RUNS]

    def _trained(self, name: str) -> bool:
        from racro.storage import runs

        try:
            held = runs.holder(self.models.root, name)
        except BadInput:
            return False
        return held is not None and held.kind == "training"


def shown(model: str) -> str:
    """A model's name without the folders before it, which are nobody's business."""
    return model.rstrip("/").rpartition("/")[2] if "@" not in model else model.replace("@", "-")


def content(models: Models, recipe: config.Recipe | None) -> Content:
    """What the page shows for these models."""
    from racro.serving.panes import Content

    note = ""
    if engine_pair.embedded(models, recipe):
        note = (
            "These tiny models know <b>only pictures of coloured bars</b> like those of the examples. For other "
            "images, serve larger ones: <code>--captioner</code>, <code>--reasoner</code>."
        )
    return Content(_examples(models, recipe), note)


def _examples(models: Models, recipe: config.Recipe | None) -> list[Example]:
    """Held-out problems with one image: of the embedded world, or those that a training of the recipe prepared."""
    from racro.serving.panes import Example

    if recipe is not None and not isinstance(recipe.problems, config.EmbeddedProblems):
        try:
            return _prepared(recipe.problems, layout.absolute(models.root))
        except Exception as error:  # examples are a courtesy
            LOG.warning("no examples: %s", error)
            return []
    from racro.embedded import world

    found: dict[str, Example] = {}
    for problem in world.generate("heldout", 0, 64):
        if len(problem.scenes) == 1:
            found.setdefault(problem.category, Example(problem.images()[0], problem.question))
    return list(found.values())[:EXAMPLES]


def _prepared(problems: config.TableProblems | config.Virl39kProblems, root: str) -> list[Example]:
    """From the table that a training left under the root; empty where none did."""
    from racro.data.images import open_image
    from racro.schema import Problem, ProblemTable
    from racro.serving.panes import Example
    from racro.storage import artifacts

    fs, place = opened(f"{root}/{layout.ARTIFACTS}/prepare")
    for path in with_retries(lambda: fs.glob(f"{place}/*/{layout.RECORD}")):
        folder = fs.unstrip_protocol(path.rpartition("/")[0]).removeprefix("file://")
        record = artifacts.known_record(folder)
        if record is None or record.inputs.get("heldout") is None:
            continue
        if record.inputs["problems_config"].get("source") != problems.source:
            continue
        table = ProblemTable(uri=artifacts.files_of(folder, record), **record.handle)
        chosen = (problem for problem in artifacts.read_table(table, Problem) if len(problem.images) == 1)
        return [
            Example(open_image(problem.images[0], table.uri), problem.question)
            for problem, _ in zip(chosen, range(EXAMPLES), strict=False)
        ]
    return []
