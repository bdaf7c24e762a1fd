"""Engines in processes of their own answer what they answer inline, and whatever becomes of a process, none is left."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from racro import config
from racro.config import ScriptedReply
from racro.embedded import world
from racro.engines.balanced import Balanced
from racro.engines.local.batching import WINDOW
from racro.engines.local.scripted import ScriptedEngine
from racro.engines.local.transformers import TransformersEngine
from racro.engines.protocol import Engine, EngineLost, Generation, Prompt, Refusal, Request, Sampling
from racro.engines.vllm.environment import environment
from racro.engines.worker.client import Worker
from racro.engines.worker.main import Host, beat
from racro.models.folders import EMBEDDED, ModelNotFound
from racro.processes.child import Child, free_port
from racro.processes.wire import AHEAD, Wire
from racro.prompts import caption_messages
from tests.support.asking import answers, generations, refusal, requests

SOON = 100.0
"""Seconds within which processes are gone, on a machine that does much else."""

BATCH = 72

RULES = (
    ScriptedReply(when=r"slow", replies=("late",), delay=0.02),
    ScriptedReply(when=r"asleep", replies=("later",), delay=600),
    ScriptedReply(when=r"grow (\w+)", replies=("\\1" * 9,) * 2),
    ScriptedReply(when=r"number (\d+)", replies=("it is \\1", "\\1, I think"), tokens=5),
    ScriptedReply(when=r"(?s)say (.+)", replies=("\\1",)),
)
CAPTIONER = config.Captioner(model="embedded", dtype="float32")
SCRIPTED = config.Reasoner(engine=config.Scripted(rules=RULES))


def scripted(log: Path, **place: object) -> Worker:
    return Worker("reasoner", SCRIPTED, "", runtime(**place), log)


def runtime(**place: object) -> config.Runtime:
    return config.Runtime.model_validate(
        {"device": "cpu", "caption_batch": BATCH, "reasoner": place, "captioner": place}
    )


def asked(text: str, *images: Image.Image) -> Prompt:
    return Prompt([{"role": "user", "content": text}], images)


def pictured(count: int) -> list[Prompt]:
    problems = world.generate("train", 3, count)
    return [Prompt(caption_messages(p.question, len(p.scenes)), tuple(p.images())) for p in problems]


def seconds_until(condition: Callable[[], bool], limit: float = SOON) -> float:
    """How long it took; fails at the limit."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < limit, "it never happened"
        time.sleep(0.02)
    return time.monotonic() - start


def gone(pid: int) -> bool:
    """Not there, not even as a zombie of this process."""
    try:
        process = psutil.Process(pid)
        return process.status() == psutil.STATUS_ZOMBIE and process.ppid() != os.getpid()
    except psutil.NoSuchProcess:
        return True


def below(pid: int) -> list[int]:
    """All descendants."""
    return [process.pid for process in psutil.Process(pid).children(recursive=True)]


@pytest.fixture
def children() -> Iterator[list[int]]:
    """The processes that a test leaves to this one: none."""
    before = set(below(os.getpid()))
    yield []
    seconds_until(lambda: not set(below(os.getpid())) - before)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "engine.log"


@pytest.fixture(scope="module")
def worker(log: Path) -> Iterator[Worker]:
    """A worker with the scripted engine."""
    with contextlib.closing(scripted(log)) as engine:
        yield engine


@pytest.fixture(scope="module")
def opened() -> Iterator[list[Worker]]:
    """The worker with a model that is open; it takes seconds to start."""
    workers: list[Worker] = []
    yield workers
    for engine in workers:
        engine.close()


@pytest.fixture
def captioner(opened: list[Worker], log: Path) -> Worker:
    """A worker with the embedded captioner, another one when the last was lost."""
    if not opened or opened[-1].lost:
        opened.append(Worker("captioner", CAPTIONER, str(EMBEDDED / "captioner"), runtime(), log))
    return opened[-1]


class Watched(Iterable[Request]):
    """Requests that note which were read; `until` that one, where reading fails."""

    def __init__(self, text: str, count: int, until: int | None = None) -> None:
        self.text, self.count, self.until = text, count, until
        self.read: list[int] = []

    def __iter__(self) -> Iterator[Request]:
        for key in range(self.count):
            if key == self.until:
                raise OSError("the disk is gone")
            self.read.append(key)
            yield Request(key, asked(f"{self.text} {key}"), Sampling(), key)


# --- child processes --------------------------------------------------------------------------------------------------

FAMILY = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(600)"
for own_session in (False, True):
    command = [sys.executable, "-c", stubborn]
    subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=own_session).stdout.readline()
print("all there", flush=True)
time.sleep(600)
"""
"""A process with a child, and one in a session of its own; none of them ends when it is asked."""


def family(log: Path) -> tuple[Child, list[int]]:
    child = Child([sys.executable, "-c", FAMILY], log=log)
    seconds_until(lambda: "all there" in child.last_words())
    members = [child.pid, *below(child.pid)]
    assert len(members) == 3
    return child, members


@pytest.mark.parametrize("end", ["stop", "status"])
def test_a_child_ends_with_all_that_it_started(end: str, tmp_path: Path, children: list[int]) -> None:
    child, members = family(tmp_path / "log")
    os.kill(members[1], signal.SIGSTOP)
    with forked():
        if end == "stop":
            child.stop(patience=0.2)
            child.stop()
        else:
            os.kill(child.pid, signal.SIGKILL)
            seconds_until(lambda: child.poll() is not None)
        assert child.poll() == -signal.SIGKILL
        assert all(map(gone, members))


@contextlib.contextmanager
def forked() -> Iterator[None]:
    """Beside a copy of this process, which holds copies of all its pipes."""
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
        os._exit(0)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_child_does_not_outlive_a_killed_supervisor(tmp_path: Path, children: list[int]) -> None:
    child = Child([sys.executable, "-c", "import time; time.sleep(600)"], log=tmp_path / "log")
    supervisor = psutil.Process(child.pid).parent()
    assert supervisor is not None and supervisor.ppid() == os.getpid()
    supervisor.kill()
    seconds_until(lambda: gone(child.pid))
    child.stop()
    assert child.poll() == -signal.SIGKILL


def test_a_child_is_asked_before_it_is_killed(tmp_path: Path, children: list[int]) -> None:
    program = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(7)); print(1, flush=True); time.sleep(600)"
    )
    child = Child([sys.executable, "-c", program], log=tmp_path / "log")
    seconds_until(lambda: child.last_words() == "1")
    child.stop(patience=SOON)
    assert child.poll() == 7


def test_a_child_has_its_own_status_and_words(tmp_path: Path, children: list[int]) -> None:
    log = tmp_path / "deep" / "log"
    first = Child([sys.executable, "-c", "import os; print('out'); os.abort()"], log=log)
    assert first.wait(SOON) == -signal.SIGABRT
    program = "import os, sys; print(os.environ['WORD'], flush=True); print('err', file=sys.stderr); sys.exit(3)"
    second = Child([sys.executable, "-c", program], log=log, env={"WORD": "a word"})
    assert second.wait(SOON) == 3
    assert second.last_words() == "a word | err"
    assert second.last_words(1) == "err"
    missing = Child(["no-such-command"], log=log)
    assert missing.wait(SOON) == 127
    assert "no-such-command" in missing.last_words()


def test_a_child_outlives_the_thread_that_started_it(tmp_path: Path, children: list[int]) -> None:
    started: list[Child] = []
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    thread = threading.Thread(target=lambda: started.append(Child(command, log=tmp_path / "log")))
    thread.start()
    thread.join()
    time.sleep(0.3)
    assert started[0].poll() is None
    assert os.getsid(started[0].pid) != os.getsid(0), "Ctrl-C in the terminal would end it before it is closed"
    started[0].stop()


PARENT = """
import os, sys, threading, time
from pathlib import Path
from racro import config
from racro.engines.protocol import Prompt, Request, Sampling
from racro.engines.worker.client import Worker
from racro.processes.child import Child

what, log, program = sys.argv[1:]
asleep = config.Scripted(rules=[config.ScriptedReply(replies=["later"], delay=600)])

def start():
    if what == "child":
        child = Child([sys.executable, "-c", program], log=Path(log))
        while "all there" not in child.last_words():
            time.sleep(0.02)
        print(child.pid, flush=True)
    else:
        worker = Worker("reasoner", config.Reasoner(engine=asleep), "", config.Runtime(), Path(log))
        print(worker.pid, flush=True)
        next(worker.generate([Request(0, Prompt([{"role": "user", "content": "?"}]), Sampling(), 0)]))

thread = threading.Thread(target=start, daemon=True)
thread.start()
if what == "child":
    thread.join()
    if os.fork() == 0:  # a copy of this process, with copies of all its pipes
        time.sleep(60)
time.sleep(600)
"""
"""A parent with a child (and then a fork of itself that lives on), or with a worker in mid-call."""


@pytest.mark.parametrize("what", ["child", "worker"])
@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_nothing_outlives_a_killed_parent(what: str, stopped: bool, tmp_path: Path, children: list[int]) -> None:
    program = [sys.executable, "-c", PARENT, what, str(tmp_path / "log"), FAMILY]
    parent = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    time.sleep(0.2)  # until a worker is in the call, or the fork is there
    everybody = below(parent.pid)
    assert pid in everybody and len(everybody) == (5 if what == "child" else 2)
    if stopped:
        os.kill(pid, signal.SIGSTOP)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    forks = {pid for pid in everybody if not gone(pid) and psutil.Process(pid).cmdline() == program}
    seconds_until(lambda: all(gone(pid) for pid in everybody if pid not in forks))
    for pid in forks:
        os.kill(pid, signal.SIGKILL)


def test_a_free_port_can_be_listened_on() -> None:
    import socket

    with socket.create_server(("127.0.0.1", free_port())):
        pass


# --- a worker answers as its engine -----------------------------------------------------------------------------------

texts = st.one_of(
    st.integers(0, 99).map("number {}".format), st.text(min_size=1).map("say {}".format), st.just("no rule for this")
)
pictures = st.lists(st.builds(Image.new, st.just("RGB"), st.tuples(st.integers(1, 9), st.integers(1, 9))), max_size=2)
samplings = st.builds(Sampling, n=st.integers(1, 3), max_tokens=st.integers(1, 9), temperature=st.floats(0, 2))


@given(st.lists(st.builds(lambda text, images: asked(text, *images), texts, pictures)), samplings)
@settings(deadline=None)
def test_a_worker_is_its_engine(worker: Worker, prompts: list[Prompt], sampling: Sampling) -> None:
    seeds = range(len(prompts))
    inline = answers(ScriptedEngine(RULES), prompts, sampling, seeds)
    assert answers(worker, prompts, sampling, seeds) == inline
    copies = Balanced([worker, ScriptedEngine(RULES), worker], sequences=2)
    assert answers(copies, prompts, sampling, seeds) == inline


def test_a_worker_is_its_model(captioner: Worker) -> None:
    """Images, log-probs and seeds travel; the captions are those of the engine in this process."""
    prompts, sampling, seeds = pictured(24), Sampling(n=2, max_tokens=12), list(range(24))
    inline = TransformersEngine.captioner(str(EMBEDDED / "captioner"), "float32", "cpu", batch=BATCH)
    expected = generations(inline, prompts, sampling, seeds)
    made = generations(captioner, prompts, sampling, seeds)
    assert [[c.token_ids for c in g.completions] for g in made] == [
        [c.token_ids for c in g.completions] for g in expected
    ]
    for ours, theirs in zip(made, expected, strict=True):
        for a, b in zip(ours.completions, theirs.completions, strict=True):
            assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)


def test_an_engine_may_read_far_ahead(captioner: Worker) -> None:
    """Its window is larger than what a worker is sent unasked."""
    assert AHEAD < WINDOW * BATCH
    prompts = [asked("?")] * (WINDOW * BATCH + 1)
    assert len(generations(captioner, prompts, Sampling(max_tokens=1), range(len(prompts)))) == len(prompts)


def test_prompts_are_read_late(worker: Worker) -> None:
    watched = Watched("slow", 4 * AHEAD)
    results = worker.generate(watched)
    next(results)
    assert len(watched.read) <= AHEAD + AHEAD
    results.close()  # type: ignore[attr-defined]


def test_calls_run_side_by_side_and_can_be_abandoned(worker: Worker) -> None:
    process = psutil.Process(worker.pid)
    generations(worker, [asked("number 1")], Sampling(), [0])  # whatever thread a first call starts is there
    threads = process.num_threads()
    long = Watched("slow", 100_000)
    results = worker.generate(long)
    next(results)
    short = [asked(f"number {i}") for i in range(3)]
    assert len(generations(worker, short, Sampling(), range(3))) == 3
    assert len(long.read) < long.count
    results.close()  # type: ignore[attr-defined]
    seconds_until(lambda: process.num_threads() <= threads)  # the engine works on it no more

    def at_rest() -> bool:
        read = len(long.read)
        time.sleep(0.5)
        return len(long.read) == read

    seconds_until(at_rest)
    assert at_rest() and len(long.read) < long.count


def test_balanced_gives_more_to_the_faster(tmp_path: Path) -> None:
    slow = ScriptedReply(when="number (.*)", replies=("it is \\1",), delay=0.05)
    fast = ScriptedReply(when="number (.*)", replies=("it is \\1",), delay=0.001)
    engines = [Counting([slow]), Counting([fast])]
    watched = Watched("number", 200)
    copies = Balanced(engines, sequences=4)
    texts = {g.key: g.completions[0].text for g in copies.generate(watched) if isinstance(g, Generation)}
    assert texts == {i: f"it is {i}" for i in range(200)}
    assert watched.read == list(range(200))
    assert engines[0].answered + engines[1].answered == 200
    assert 0 < engines[0].answered < engines[1].answered
    assert copies.outstanding == [0, 0]


class Counting(ScriptedEngine):
    answered = 0

    def generate(self, requests: Iterable[Request]) -> Iterator[Generation | Refusal]:
        for answer in super().generate(requests):
            self.answered += 1
            yield answer


def test_balanced_reads_late() -> None:
    copies = Balanced([ScriptedEngine(RULES), ScriptedEngine(RULES)], sequences=4)
    watched = Watched("slow", 1000)
    results = copies.generate(watched)
    next(results)
    assert len(watched.read) <= 40
    results.close()  # type: ignore[attr-defined]
    seconds_until(lambda: copies.outstanding == [0, 0])


def test_balanced_can_be_abandoned() -> None:
    """Parts of fifty requests are being worked on; each ends at its next answer."""
    engines = [Counting(RULES), Counting(RULES)]
    copies = Balanced(engines, sequences=200)
    watched = Watched("slow", 10_000)
    results = copies.generate(watched)
    next(results)
    results.close()  # type: ignore[attr-defined]
    seconds_until(lambda: copies.outstanding == [0, 0])
    assert len(watched.read) < 2000 and sum(engine.answered for engine in engines) < 400


def test_what_reading_raises_reaches_the_caller_of_balanced() -> None:
    copies = Balanced([ScriptedEngine(RULES), ScriptedEngine(RULES)])
    with pytest.raises(OSError, match="the disk is gone"):
        list(copies.generate(Watched("number", 100, until=50)))
    seconds_until(lambda: copies.outstanding == [0, 0])


@pytest.mark.parametrize("copies", [1, 2])
def test_a_timeout_of_the_stage_reaches_whoever_waits(worker: Worker, copies: int) -> None:
    """Timeouts are exceptions that are set in a thread from outside; a lock that is waited for holds them off."""
    engine = worker if copies == 1 else Balanced([worker] * copies)
    with timed_out():
        next(engine.generate(requests([asked("asleep")], Sampling(), [0])))


def test_a_timeout_while_it_starts_leaves_no_process(log: Path, children: list[int]) -> None:
    with timed_out():
        Worker("captioner", CAPTIONER, str(EMBEDDED / "captioner"), runtime(), log)


@contextlib.contextmanager
def timed_out() -> Iterator[None]:
    """What is in it takes long, and is ended by TimeoutError."""
    identity = ctypes.c_ulong(threading.get_ident())
    exception = ctypes.py_object(TimeoutError)
    clock = threading.Timer(0.3, lambda: ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, exception))
    clock.start()
    with pytest.raises(TimeoutError):
        yield
    clock.join()


def test_a_worker_has_the_gpus_of_its_place(log: Path, children: list[int]) -> None:
    with contextlib.closing(scripted(log, gpus=(2, 3))) as worker:
        assert psutil.Process(worker.pid).environ()["CUDA_VISIBLE_DEVICES"] == "2,3"


def test_vllm_leaves_nothing_in_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RACRO_HOME", str(tmp_path))
    for name in ("VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)  # a folder that the user chose is kept
    variables = environment(config.EnginePlacement(gpus=(1,), cpu_cache=0.5), cpu=True)
    folders = [value for value in variables.values() if "/" in value]
    assert len(folders) >= 5 and all(Path(folder).is_relative_to(tmp_path) for folder in folders)
    assert variables["CUDA_VISIBLE_DEVICES"] == "1"
    assert variables["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert environment(config.EnginePlacement(tensor_parallel=2), cpu=False)["VLLM_ENABLE_V1_MULTIPROCESSING"] == "1"


# --- errors -----------------------------------------------------------------------------------------------------------


def test_errors_keep_their_type_and_the_worker_goes_on(captioner: Worker, worker: Worker, tmp_path: Path) -> None:
    prompts = pictured(2)
    assert "lower max_tokens" in refusal(captioner, prompts[0], Sampling(max_tokens=10**6))
    assert "no rule" in refusal(worker, asked("what?"), Sampling())
    with pytest.raises(OSError, match="the disk is gone"):
        list(worker.generate(Watched("number", 100, until=50)))
    diverged = tmp_path / "diverged"
    shutil.copytree(EMBEDDED / "captioner", diverged)
    weights = {name: torch.full_like(t, torch.nan) for name, t in load_file(diverged / "model.safetensors").items()}
    save_file(weights, diverged / "model.safetensors", {"format": "pt"})
    before = generations(captioner, prompts, Sampling(max_tokens=8), [0, 1])
    captioner.swap(str(diverged))
    with pytest.raises(FloatingPointError, match="diverged"):
        generations(captioner, prompts, Sampling(max_tokens=8), [0, 1])
    captioner.swap(str(EMBEDDED / "captioner"))
    captioner.sleep(discard=True)
    assert generations(captioner, prompts, Sampling(max_tokens=8), [0, 1]) == before
    assert not captioner.lost and not worker.lost


def test_an_engine_that_cannot_start_says_why(log: Path, tmp_path: Path, children: list[int]) -> None:
    with pytest.raises(ModelNotFound, match=r"nowhere holds no config.json"):
        Worker("captioner", CAPTIONER, str(tmp_path / "nowhere"), runtime(), log)
    rules = [ScriptedReply(when="(", replies=("never",))]
    with pytest.raises(EngineLost, match="reasoner's worker failed: error: missing"):  # a type of a library's own
        Worker("reasoner", config.Reasoner(engine=config.Scripted(rules=rules)), "", runtime(), log)
    with pytest.raises(EngineLost, match=r"did not start within 0.01 s .runtime.reasoner.start_deadline"):
        scripted(log, start_deadline=0.01)


def test_a_process_that_dies_at_its_start_is_lost_with_its_last_words(
    log: Path, monkeypatch: pytest.MonkeyPatch, children: list[int]
) -> None:
    monkeypatch.setenv("PYTHONHOME", "/nonexistent")
    with pytest.raises(EngineLost, match=r"status 1; .*No module named 'encodings'"):
        scripted(log)


def test_what_libraries_print_disturbs_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, children: list[int]
) -> None:
    monkeypatch.setenv("PYTHONVERBOSE", "1")
    with contextlib.closing(scripted(tmp_path / "log")) as worker:
        assert generations(worker, [asked("number 1")], Sampling(), [0])[0].completions[0].text == "it is 1"
    assert (tmp_path / "log").stat().st_size > 10_000


# --- faults -----------------------------------------------------------------------------------------------------------


def lost_while_generating(engine: Engine, requests: Iterable[Request], fault: Callable[[], None]) -> str:
    """The message of the EngineLost that a fault after the first result leads to; another call gets it too."""
    errors: list[BaseException] = []

    def other() -> None:
        try:
            generations(engine, [asked("asleep")], Sampling(), [0])
        except EngineLost as error:
            errors.append(error)

    thread = threading.Thread(target=other, daemon=True)
    thread.start()
    results = engine.generate(requests)
    next(results)
    fault()
    with pytest.raises(EngineLost) as caught:
        list(results)
    thread.join(SOON)
    assert len(errors) == 1
    assert engine.lost
    with pytest.raises(EngineLost):
        next(engine.generate(requests))
    return str(caught.value)


def test_a_killed_worker_is_lost(log: Path, children: list[int]) -> None:
    with contextlib.closing(scripted(log)) as worker:
        message = lost_while_generating(worker, Watched("slow", 10**6), lambda: os.kill(worker.pid, signal.SIGKILL))
        assert "signal 9" in message and str(log) in message
        assert gone(worker.pid)


@pytest.mark.parametrize("size", [1, 1000], ids=["idle wire", "full wire"])
def test_a_stopped_worker_is_lost_and_killed(log: Path, size: int, children: list[int]) -> None:
    """With large images its parent is in the middle of sending when it stops."""
    image = Image.new("RGB", (size, size))
    slow = list(requests([asked("slow", image)] * 10_000, Sampling(), range(10_000)))
    with contextlib.closing(scripted(log, silence=2.0)) as worker:
        message = lost_while_generating(worker, slow, lambda: os.kill(worker.pid, signal.SIGSTOP))
        assert "no sign of life for 2 s" in message
        assert gone(worker.pid)


def test_one_lost_copy_is_enough(log: Path, children: list[int]) -> None:
    first, second = scripted(log), scripted(log)
    with contextlib.closing(Balanced([first, second], sequences=8)) as copies:
        results = copies.generate(Watched("slow", 10**6))
        next(results)
        os.kill(second.pid, signal.SIGKILL)
        with pytest.raises(EngineLost):
            list(results)
        assert copies.lost and not first.lost


def test_a_long_silence_without_a_call_is_none(log: Path, children: list[int]) -> None:
    with contextlib.closing(scripted(log, silence=0.4)) as worker:
        os.kill(worker.pid, signal.SIGSTOP)
        time.sleep(1.5)
        os.kill(worker.pid, signal.SIGCONT)
        time.sleep(0.5)
        assert not worker.lost


class Counted(Engine):
    """Says what the test has it say of its steps."""

    steps: int | None = None


def test_an_engine_that_makes_no_step_gives_no_sign_of_life() -> None:
    """The thread that gives them goes on when the one that computes hangs, in a kernel say."""
    near, far = socket.socketpair()
    ours, theirs = Wire(near.detach()), Wire(far.detach())
    host = Host(theirs, "")
    host.engine = engine = Counted()
    threading.Thread(target=beat, args=(theirs, 0.01, host), daemon=True).start()
    try:
        for steps, alive in ((None, True), (7, False), (8, False), (None, True)):
            engine.steps = steps
            silent = any(not (ours.connection.poll(0.5) and ours.receive()) for _ in range(50))
            assert silent is not alive, f"steps: {steps}"
    finally:
        ours.close()


def limit_memory(worker: Worker, more: int) -> None:
    """A real limit of a real process: its address space as it is, and `more` bytes."""
    size = psutil.Process(worker.pid).memory_info().vms + more
    resource.prlimit(worker.pid, resource.RLIMIT_AS, (size, size))


def test_a_model_that_is_out_of_memory_is_lost_with_a_remedy(captioner: Worker) -> None:
    prompts = pictured(BATCH)
    generations(captioner, prompts[:1], Sampling(max_tokens=2), [0])
    limit_memory(captioner, 200 << 20)
    with pytest.raises(EngineLost, match=r"out of memory.* lower runtime.caption_batch"):
        generations(captioner, prompts, Sampling(n=64, max_tokens=512, temperature=9.0), range(BATCH))
    assert captioner.lost and gone(captioner.pid)


def test_memory_error_is_lost(log: Path, children: list[int]) -> None:
    with contextlib.closing(scripted(log)) as worker:
        next(worker.generate(requests([asked("number 1")], Sampling(), [0])))
        limit_memory(worker, 200 << 20)
        with pytest.raises(EngineLost, match="out of memory"):
            generations(worker, [asked("grow " + "x" * (20 << 20))], Sampling(max_tokens=1 << 30), [0])
        assert gone(worker.pid)
