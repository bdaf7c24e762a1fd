"""`racro answer` as people use it: exit codes, one line for a mistake, one line of JSON for each question."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from racro.embedded import world
from racro.models.folders import EMBEDDED, model_digest
from tests.conftest import EMBEDDED_RECIPE, REPOSITORY
from tests.support.finished import summary
from tests.support.forkserver import STATE, Done, run

KEY = "sesame"
LOADING = "racro: loading the models\n"
MODES = r"""
captioner:
  engine:
    type: scripted
    rules: [{when: "missing: the height", replies: [AGAIN]}, {when: describe the image, replies: [ONE, TWO, THREE]}]
reasoner:
  engine:
    type: scripted
    rules:
      - {when: "(?s)Answer: .boxed.7.*Now solve", replies: ['\boxed{5}']}
      - {when: AGAIN, replies: ['\boxed{4}']}
      - {when: do not guess, replies: ['\boxed{cannot be answered} the height']}
      - {when: ONE, replies: ['\boxed{2}']}
      - {when: "", replies: ['\boxed{3}']}
"""

REGISTER = """
import sys
from mlflow import MlflowClient
from racro.config import loading
from racro.identity import judging_digest
from racro.schema import EntryTable, FrozenModel, Policy, ProblemTable
from racro.summary import Score
from tasks.recording import track
from tasks.recording.registry import Judge

root, policy, digest = sys.argv[1:]
client = MlflowClient()
experiment = track.experiment_id(client)
for name, reasoner, uri in (("mine", "first", policy), ("other", "second", "/gone")):
    tags = {"racro.run": name, track.JUDGING: judging_digest(loading.load("embedded")) if name == "mine" else "x"}
    run = client.create_run(experiment, tags=tags).info.run_id
    track.log_evaluation.__wrapped__(
        run, 1, 0.0, Policy(uri=uri, rows=0, digest=digest), Judge(FrozenModel(uri="x", rows=0, digest=reasoner),
        ProblemTable(uri="x", rows=8, digest="heldout")), "x", EntryTable(uri="x", rows=1, digest="judged"),
        Score(accuracy=0.5, stderr=0.1, n=8, truthful=None, states_asked=None, leaks=None), {"accuracy": 0.5},
    )
    track.close_run.__wrapped__(run, {})
"""
"""Two trainings with reasoners of their own, so that there are two champions; logged as trainings log."""

SCRIPTED = """
captioner: {engine: {type: scripted, rules: [{when: describe the image, replies: [CAPTION]}, {replies: [TENTATIVE]}]}}
reasoner: {engine: {type: scripted, rules: [{when: "(?s)CAPTION.*TENT", replies: ["<think>so</think>\\\\boxed{3}"]}]}}
"""

PROBLEM = next(problem for problem in world.generate("heldout", 5, 99) if len(problem.scenes) == 1)
ABOUT = ["--image", "bars.png", "--question", PROBLEM.question]
LINES = [
    json.dumps({"id": "a", "images": ["bars.png"], "question": PROBLEM.question, "gold": PROBLEM.answer}),
    "{",
    "",
    json.dumps({"id": "gone", "images": "gone.png", "question": PROBLEM.question}),
    json.dumps({"images": ["bars.png"], "question": PROBLEM.question, "imgs": 1}),
    json.dumps({"images": ["bars.png"]}),
    "[1]",
    json.dumps({"images": "bars.png", "question": PROBLEM.question}),
]

WITH_ZEROS = ["--max-tokens", "40", "--json", *ABOUT]
"""For the policy of zeros, which never ends its captions."""

COMMANDS: dict[str, list[str]] = {
    "nothing": [],
    "about": ABOUT,
    "many": ["-"],
    "none": ["-"],
    "scripted": ["--recipe", "scripted.yaml", *ABOUT],
    "run": ["--run", "mine", *WITH_ZEROS],
    "policy": ["--policy", "zeros", *WITH_ZEROS],
    "policy of a run": ["--policy", "mine", *WITH_ZEROS],
    "champion of a run": ["--policy", "champion", "--run", "mine", *WITH_ZEROS],
    "vote": ["--recipe", "modes.yaml", "--mode", "vote", "--captions", "3", "--json", "--trace", *ABOUT],
    "check": ["--recipe", "modes.yaml", "--mode", "check", *ABOUT],
    "shots": ["--recipe", "modes.yaml", "--mode", "shots", "--examples", "shots.jsonl", "--shots", "1", *ABOUT],
    "trace": ["--trace", "--json"],
    "endpoint": ["--recipe", "scripted.yaml", "--reasoner", "m", "--reasoner-url", "URL", "--json", *ABOUT],
    "not at the endpoint": ["--recipe", "scripted.yaml", "--reasoner", "n", "--reasoner-url", "URL", *ABOUT],
}

MISTAKES: dict[str, tuple[list[str], int, str]] = {
    "no such image": (
        ["--image", "gone.png", "--question", "?"],
        2,
        "gone.png: no such image; give a file in a format",
    ),
    "text named png": (["--image", "text.png", "--question", "?"], 2, "text.png: not a readable image"),
    "empty question": (["--image", "bars.png", "--question", " "], 2, "the question is empty; ask something"),
    "no image": (["--question", "What?"], 2, "--image: missing; name the image"),
    "no question": (["--image", "bars.png"], 2, "--question: missing; say what"),
    "not a dash": (["bars.png"], 2, "bars.png: the one argument is `-`"),
    "dash and image": (["-", "--image", "bars.png"], 2, "-: questions come from standard input; leave out"),
    "no such recipe": (["--recipe", "gone.yaml"], 2, "gone.yaml: no such recipe file"),
    "no such run": (["--run", "gone"], 2, "--run gone: runs/gone/recipe.yaml cannot be read"),
    "unfinished run": (["--run", "begun"], 2, "--run begun: runs/begun/summary.json cannot be read"),
    "run and recipe": (["--run", "mine", "--recipe", "x"], 2, "--recipe and --run: a run has its recipe"),
    "no such policy": (
        ["--policy", "gone"],
        2,
        "policy gone: no policy is there; give the name of a run, `champion`",
    ),
    "several champions": (["--policy", "champion"], 2, "policy champion: there are several, captioner-"),
    "policy and captioner": (["--policy", "zeros", "--captioner", "x"], 2, "--captioner: --policy and --run name the"),
    "no such model": (["--reasoner", "no/model"], 2, "reasoner.model: 'no/model' is not a folder"),
    "endpoint down": (
        ["--reasoner", "m", "--reasoner-url", "http://127.0.0.1:9/v1"],
        2,
        "--reasoner-url: no answer (h",
    ),
    "no endpoint": (["--reasoner", "m", "--reasoner-url", "here"], 2, "--reasoner-url: no answer (here: unknown url"),
    "nameless endpoint": (["--reasoner-url", "http://x/v1"], 2, "--reasoner: missing; name the model as the endpoint"),
    "no such mode": (["--mode", "blind"], 2, "--mode blind: not known; one of caption, direct, joint"),
    "no mode of answering": (["--mode", "text"], 2, "mode text: questions are not answered like that; one of joint"),
    "captions of no mode": (["--captions", "3"], 2, "--captions: no mode uses it; give --mode vote or --mode best"),
    "no kind": (["--mode", "best"], 2, "mode best: the reward that chooses among the captions is missing"),
    "no examples": (["--mode", "shots"], 2, "--examples: mode shots needs a file of solved examples"),
    "cut off": (
        ["--recipe", "scripted.yaml", "--max-tokens", "12"],
        1,
        "failed: CutOff: the reasoner gave no answer before it was cut off",
    ),
}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory after a training: images, a run, its policy, and what MLflow knows of it."""
    work = tmp_path_factory.mktemp("answer") / "work"
    policy = work / "zeros"
    (work / "runs" / "mine").mkdir(parents=True)
    (work / "runs" / "begun").mkdir()
    policy.mkdir()
    PROBLEM.images()[0].save(work / "bars.png")
    (work / "text.png").write_text("text")
    (work / "scripted.yaml").write_text(SCRIPTED)
    (work / "modes.yaml").write_text(MODES.replace("\\\\boxed", "\\boxed"))
    (work / "shots.jsonl").write_text('{"question": "Q", "caption": "C", "answer": "7"}\n')
    _zeros(policy)
    recipe = Path(EMBEDDED_RECIPE).read_text()
    for name in ("mine", "begun"):
        (work / "runs" / name / "recipe.yaml").write_text(recipe)
    (work / "runs" / "mine" / "summary.json").write_text(summary("mine", policy).model_dump_json())
    settled = "from flows.station import local; local.settle()\n"
    arguments = [str(work / "runs"), str(policy), model_digest(policy)]
    _python(work, "-c", settled + REGISTER, *arguments)
    return work


def _zeros(folder: Path) -> None:
    """A captioner whose weights are all 0: it writes the first token of the vocabulary for ever, which is no text."""
    import torch
    from safetensors.torch import load_file, save_file

    for file in (EMBEDDED / "captioner").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    weights = load_file(folder / "model.safetensors")
    save_file({k: torch.zeros_like(v) for k, v in weights.items()}, folder / "model.safetensors", {"format": "pt"})


def _environment(work: Path) -> dict[str, str]:
    """A user's: no settings of ours, an empty home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(STATE)}
    home = work.parent / "home"
    home.mkdir(exist_ok=True)
    return kept | {
        "PYTHONPATH": str(REPOSITORY),
        "HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "OPENAI_API_KEY": KEY,
        "NO_PROXY": "127.0.0.1",
    }


def _python(work: Path, *arguments: str) -> str:
    """What a user's Python in the working directory prints."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=work, env=_environment(work), capture_output=True, text=True, timeout=1000
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


class Endpoint(BaseHTTPRequestHandler):
    """An OpenAI-compatible server with one model, for those who have the key."""

    def do_GET(self) -> None:
        self._say({"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "me"}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked["model"] != "m":
            return self.send_error(404)
        said = "\\boxed{3}" if "TENTATIVE" in asked["messages"][-1]["content"] else "unknown"
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
        return self._say({"object": "chat.completion", "model": "m", "choices": [choice]})

    def _say(self, content: object) -> None:
        if self.headers["Authorization"] != f"Bearer {KEY}":
            return self.send_error(401)
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Where it is."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


@pytest.fixture(scope="module")
def done(work: Path, url: str) -> dict[str, Done]:
    """Every command, one after the other, in one working directory."""
    commands = COMMANDS | {name: arguments for name, (arguments, _, _) in MISTAKES.items()}
    said = {number: "\n".join(LINES) if name == "many" else "\n" for number, name in enumerate(commands)}
    lines = [[argument.replace("URL", url) for argument in ("answer", *given)] for given in commands.values()]
    return dict(zip(commands, run(lines, work, _environment(work), said), strict=True))


def line_of(command: Done) -> dict[str, Any]:
    """The one line of JSON that it printed."""
    [line] = command.out.splitlines()
    return dict(json.loads(line))


# --- one question -----------------------------------------------------------------------------------------------------


def test_without_anything_the_embedded_pair_answers_an_example(done: dict[str, Done], work: Path) -> None:
    code, out, err = done["nothing"]
    assert (code, err) == (0, LOADING)
    parts = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert list(parts) == ["image", "question", "caption", "attempt", "reasoning", "answer", "verdict"]
    assert (work / parts["image"]).is_file()
    assert parts["verdict"] == f"correct; the right answer is {parts['answer']}"


def test_a_question_of_ones_own(done: dict[str, Done]) -> None:
    code, out, err = done["about"]
    assert code == 0 and f"answer    {PROBLEM.answer}\n" in out
    assert "verdict" not in out
    assert err == LOADING + (
        "racro: the embedded captioner and reasoner know only this project's own pictures of coloured bars; about "
        "anything else the answer means nothing (--captioner, --reasoner)\n"
    )


def test_a_recipe_names_models_and_settings(done: dict[str, Done]) -> None:
    code, out, err = done["scripted"]
    assert (code, err) == (0, LOADING)
    assert out.splitlines()[2:] == [
        "caption   CAPTION",
        "attempt   TENTATIVE",
        "reasoning so",
        "",
        r"          \boxed{3}",
        "answer    3",
    ]


def test_a_question_is_answered_in_other_modes(done: dict[str, Done]) -> None:
    answer = line_of(done["vote"])
    assert (answer["caption"], answer["final"], answer["finish"]) == ("TWO", "3", {"caption": "stop", "answer": "stop"})
    out = done["check"].out.splitlines()
    assert out[2:4] == ["caption   ONE", "again     AGAIN"] and out[-1] == "answer    4"
    assert done["shots"].out.splitlines()[-1] == "answer    5"


@pytest.mark.parametrize("command", ["run", "policy", "policy of a run", "champion of a run"])
def test_the_captioner_that_was_trained_answers(done: dict[str, Done], command: str) -> None:
    answer = line_of(done[command])
    assert (answer["caption"], answer["finish"]["caption"]) == ("", "length"), "that is how the policy of zeros writes"
    assert "the caption was cut off at the limit of tokens; raise --max-tokens" in done[command].err


def test_a_trace_has_a_span_for_each_text(done: dict[str, Done], work: Path) -> None:
    from mlflow import MlflowClient

    assert done["trace"].code == 0, done["trace"].err
    answer = line_of(done["trace"])
    assert answer["verdict"] == "correct" and answer["images"] == [".racro/example.png"]
    assert answer["finish"] == {"caption": "stop", "attempt": "stop", "answer": "stop"}
    client = MlflowClient(f"sqlite:///{work}/.racro/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("racro")
    assert experiment is not None
    traces = {len(trace.data.spans): trace for trace in client.search_traces(locations=[experiment.experiment_id])}
    assert [span.name for span in traces[7].data.spans] == ["racro", *["caption"] * 3, *["answer"] * 3], "mode vote"
    trace = traces[4]
    root, *texts = trace.data.spans
    assert root.inputs["question"] == answer["question"] and root.outputs["final"] == answer["final"]
    assert [span.name for span in texts] == ["caption", "attempt", "answer"]
    assert {span.parent_id for span in texts} == {root.span_id}
    assert [span.outputs["text"] for span in texts] == [answer["caption"], answer["attempt"], answer["reasoning"]]
    assert answer["caption"] in json.dumps(texts[2].inputs["messages"])
    assert trace.info.state == "OK"


def test_the_reasoner_may_be_an_endpoint(done: dict[str, Done]) -> None:
    answer = line_of(done["endpoint"])
    assert (answer["attempt"], answer["final"], answer["finish"]["answer"]) == ("TENTATIVE", "3", "stop")
    code, out, err = done["not at the endpoint"]
    assert code == 2 and "has no model 'n'; it has m" in err and len(err.removeprefix(LOADING).splitlines()) == 1
    assert out == "", "seen before the captioner is asked"


# --- many -------------------------------------------------------------------------------------------------------------


def test_many_questions_give_a_line_each_in_order(done: dict[str, Done]) -> None:
    code, out, err = done["many"]
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["id"] for line in lines] == ["a", 2, "gone", 5, 6, 7, 8]
    assert code == 2, "some could not be asked"
    assert lines[0]["verdict"] == "correct" and lines[0]["final"] == lines[-1]["final"] and "verdict" not in lines[-1]
    errors = [line["error"] for line in lines[1:-1]]
    expected = [
        "line 2: not a JSON object",
        "gone.png: no such image",
        "line 5: imgs: unknown key",
        "line 6: question:",
    ]
    assert [error.startswith(start) for error, start in zip(errors, [*expected, "line 7: not a"], strict=True)] == [
        True
    ] * 5
    assert "racro: 2 of 7 questions answered; right: 100.0 % of 1\n" in err


def test_no_questions_at_all_is_a_mistake(done: dict[str, Done]) -> None:
    code, out, err = done["none"]
    assert (code, out) == (2, "")
    assert err.removeprefix(LOADING).startswith("racro: no line on standard input; give lines like {")


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_has_its_exit_code_and_its_line(done: dict[str, Done], name: str) -> None:
    _, code, line = MISTAKES[name]
    mistake = done[name]
    assert mistake.code == code, mistake.err
    last = mistake.err.splitlines()[-1]
    assert last.startswith("racro: ") and line in last, mistake.err
    assert "Traceback" not in mistake.err
    if code == 2:
        assert mistake.out == "" and len(mistake.err.removeprefix(LOADING).splitlines()) == 1


def test_all_stays_in_the_working_directory(done: dict[str, Done], work: Path) -> None:
    assert list((work.parent / "home").iterdir()) == []
    streams = {f"{i}.{name}" for i in range(len(done)) for name in ("in", "out", "err")}
    ours = {"bars.png", "text.png", "scripted.yaml", "modes.yaml", "shots.jsonl", "zeros", "runs", ".racro"}
    assert {path.name for path in work.iterdir()} - streams == ours


def test_an_answer_loads_neither_prefect_nor_mlflow(work: Path) -> None:
    program = (
        "import sys, flows.cli.main\n"
        "sys.argv = ['racro', 'answer', '--recipe', 'scripted.yaml']\n"
        "try: flows.cli.main.main()\n"
        "except SystemExit as end: assert not end.code\n"
        "print(sorted({'prefect', 'mlflow', 'torch', 'trl', 'vllm'} & set(sys.modules)))"
    )
    assert _python(work, "-c", program).splitlines()[-1] == "[]"
