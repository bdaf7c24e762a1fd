"""Names of models -> open engines: `racro`, `racro:champion`, `racro:initial`, `racro:RUN`, each with `@REASONER`.

Which captioner a name means is said by whoever serves (`flows.serving`). Engines are opened at the first question and
stay; of captioners only the last few used, and a question for one more waits. A lost engine is opened again. Called by
`racro.serving.service`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from racro import config
from racro.answering.engine_pair import Model, resolve, shared
from racro.answering.pipeline import Racro
from racro.engines.opening import CONCURRENT_CALLS
from racro.engines.waiting import unless_opening
from racro.errors import BadInput
from racro.serving.chat import DEFAULT
from racro.serving.errors import ApiError
from racro.serving.sharing import Shared

LOG = logging.getLogger(__name__)


class Unknown(BadInput):
    """No captioner has this name."""


@dataclass(frozen=True)
class Name:
    """A model's name in its parts."""

    captioner: str = ""
    """Empty: the one that the server was started with."""
    reasoner: str = ""

    @classmethod
    def read(cls, name: str) -> Name:
        """Raises ApiError 404 for what cannot be a name."""
        pair, _, reasoner = name.partition("@")
        head, colon, captioner = pair.partition(":")
        if head != DEFAULT or (colon and not captioner) or ("@" in name and not reasoner):
            raise no_model(name)
        return cls(captioner, reasoner)

    def __str__(self) -> str:
        return (
            DEFAULT + (f":{self.captioner}" if self.captioner else "") + (f"@{self.reasoner}" if self.reasoner else "")
        )


def no_model(name: str) -> ApiError:
    """There is no such model; the list is at /v1/models."""
    shown = name[:80] if name.isprintable() else repr(name[:80])
    return ApiError(
        404, f"no model {shown!r}; GET /v1/models lists those that there are", param="model", code="model_not_found"
    )


@dataclass(eq=False)
class Slot:
    """One model's place: its engine while it is open, and how many clients use it now."""

    model: Model
    runtime: config.Runtime
    log: Path | None
    shared: Shared | None = None
    room: int = 0
    users: int = 0
    used: float = 0.0
    restarts: int = 0
    opening: threading.Lock = field(default_factory=threading.Lock)

    def open(self) -> Shared:
        """The engine, opened now if it is not, or not any more. Raises BadInput, EngineLost."""
        with self.opening:
            if self.lost:
                LOG.warning("the %s's engine was lost; it is started again", self.model.role)
                self.restarts += 1
                self._close()
            if self.shared is None:
                engine = self.model.open(self.runtime, self.log)
                self.room = self.model.room(engine)
                kind = self.model.section.engine.type if self.model.section else ""
                batch = self.runtime.caption_batch if self.model.role == "captioner" else self.runtime.reason_batch
                self.shared = Shared(engine, CONCURRENT_CALLS.get(kind, 1) == 1, batch)
            return self.shared

    @property
    def lost(self) -> bool:
        """Is its engine lost, and not yet opened again?"""
        return self.shared is not None and self.shared.engine.lost

    def close(self, idle: bool = False) -> None:
        """Close the engine; the next question opens it again. `idle`: only if nobody uses it."""
        with self.opening:
            if not (idle and self.users):
                self._close()

    def end(self) -> None:
        """Close the engine because the process ends; one that is being opened, for minutes perhaps, ends with it."""
        with unless_opening(self.opening) as held:
            if held:
                self._close()

    def _close(self) -> None:
        if self.shared is not None and self.model.engine is None:
            self.shared.engine.close()
        self.shared = None


@dataclass(frozen=True)
class Pair:
    """Two models, and how they answer."""

    captioner: Slot
    reasoner: Slot
    how: Racro
    """Never asked itself: its settings are those of each answer."""

    @property
    def slots(self) -> tuple[Slot, Slot]:
        """Both."""
        return self.captioner, self.reasoner

    @property
    def room(self) -> int:
        """The longest text that may be asked for, in tokens."""
        return min(slot.room for slot in self.slots)


class Pairs:
    """All that can be asked here."""

    def __init__(
        self,
        find: Callable[[str, str], Racro],
        reasoners: Sequence[str],
        captioners: Callable[[], Sequence[str]],
        keep: int = 2,
        log: Path | None = None,
    ) -> None:
        """`find(captioner, reasoner)` says what a pair is; it raises Unknown for a captioner that is not there.

        `reasoners`: names, the default first. `captioners` lists names besides the default. `keep`: captioners that
        are open at most.
        """
        self.find, self.reasoners, self.captioners, self.keep, self.log = find, tuple(reasoners), captioners, keep, log
        self._slots: dict[str, Slot] = {}
        self._known: dict[Name, Pair] = {}
        self._lock = threading.Condition()
        """Guards the two, and the numbers of users; never held for long. Notified when a user has gone."""
        self._door = threading.Lock()
        """Held by who waits for room: those of an open captioner that came later do not keep it open for ever."""
        self._finding = threading.Lock()

    def names(self) -> list[Name]:
        """The models of /v1/models: every captioner with the default reasoner, then with each other one."""
        captioners = ["", *self.captioners()]
        return [Name(one, "" if i == 0 else mind) for i, mind in enumerate(self.reasoners) for one in captioners]

    def find_pair(self, name: Name) -> Pair:
        """What a name means, remembered until `reload`. Loads no model. Raises ApiError 404, BadInput."""
        if name.reasoner and name.reasoner not in self.reasoners:
            raise no_model(str(name))
        known = self._known.get(name)
        if known is None:
            with self._finding:
                known = self._known.get(name) or self._find(name)
                self._known[name] = known
        return known

    @contextlib.contextmanager
    def use(self, name: Name) -> Iterator[Pair]:
        """The pair with its engines open, which are not closed meanwhile. Waits while `keep` other captioners are used.

        Raises ApiError 404, BadInput, EngineLost.
        """
        pair = self.find_pair(name)
        with self._door:
            with self._lock:
                self._lock.wait_for(lambda: self._has_room(pair.captioner))
                for slot in pair.slots:
                    slot.users += 1
                    slot.used = time.monotonic()
                spare = self._spare()
            for slot in spare:
                slot.close(idle=True)
        try:
            for slot in pair.slots:
                slot.open()
            yield pair
        finally:
            with self._lock:
                for slot in pair.slots:
                    slot.users -= 1
                self._lock.notify_all()

    def revive(self) -> None:
        """Start lost engines again, without waiting for the next question. Call it in a thread."""
        for slot in self._all():
            if slot.lost:
                try:
                    slot.open()
                except Exception:  # the next question tries again, and says what is wrong
                    LOG.exception("the %s's engine did not start", slot.model.role)

    def reload(self) -> None:
        """Look all names up anew, because a champion may have changed, and open the default pair.

        Answers on their way go on. Engines that no name means any more are closed when they are idle. All stays as it
        is where a name cannot be looked up now. Raises BadInput, EngineLost.
        """
        with self._finding:
            found = {}
            for name in list(self._known):
                with contextlib.suppress(ApiError):
                    found[name] = self._find(name)
            self._known = found
        meant = {id(slot) for pair in found.values() for slot in pair.slots}
        for slot in self._all():
            if id(slot) not in meant:
                slot.close(idle=True)
        with self.use(Name()):
            pass

    @property
    def restarts(self) -> int:
        """Engines that were started again."""
        return sum(slot.restarts for slot in self._all())

    def close(self) -> None:
        """Close all engines: this process ends."""
        for slot in self._all():
            slot.end()

    def _find(self, name: Name) -> Pair:
        try:
            how = self.find(name.captioner, name.reasoner or self.reasoners[0])
        except Unknown as error:
            LOG.info("%s: %s", name, error)
            raise no_model(str(name)) from error
        runtime = how.runtime.model_copy(update={"streaming": False})  # a client waits for its own answer only
        captioner, reasoner = resolve("captioner", how.captioner, runtime), resolve("reasoner", how.reasoner, runtime)
        runtime = shared(runtime, captioner, reasoner)
        with self._lock:
            return Pair(self._slot(captioner, runtime), self._slot(reasoner, runtime), how)

    def _slot(self, model: Model, runtime: config.Runtime) -> Slot:
        content = model.section.model_dump_json() if model.section else str(id(model.engine))
        key = f"{model.role} {content} {model.folder} {model.place(runtime).model_dump_json()}"
        return self._slots.setdefault(key, Slot(model, runtime, self.log))

    def _has_room(self, captioner: Slot) -> bool:
        """May this captioner be opened, once idle ones are closed?"""
        others = [slot for slot in self._captioners() if slot.users and slot is not captioner]
        return len(others) < self.keep

    def _spare(self) -> list[Slot]:
        """Captioners that must go, so that no more than `keep` are open: those that were idle longest."""
        opened = [slot for slot in self._captioners() if slot.shared or slot.users]
        idle = sorted((slot for slot in opened if not slot.users), key=lambda slot: slot.used)
        return idle[: max(0, len(opened) - self.keep)]

    def _captioners(self) -> list[Slot]:
        return [slot for slot in self._slots.values() if slot.model.role == "captioner"]

    def _all(self) -> list[Slot]:
        with self._lock:
            return list(self._slots.values())
