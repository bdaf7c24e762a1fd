"""The recipe: one frozen pydantic model = one YAML file = the form in the Prefect UI.

Everything outside `runtime` is identity: it changes the answer and so every digest and cache key. `runtime` says where
and how fast, and changes neither. Defaults are the paper's (RACRO v1, 3B). Torch-free.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator


class Config(BaseModel):
    """Frozen, unknown keys forbidden, docstrings under fields become descriptions."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(gt=0)]


# --- problems ---------------------------------------------------------------------------------------------------------


class EmbeddedProblems(Config):
    """Problems of the embedded world of coloured bars: rendered on demand, exact, any number of them."""

    type: Literal["embedded"] = "embedded"
    count: PositiveInt = 2048
    """Size of the training pool. Iterations walk through it in seeded random order, epoch after epoch."""


class Columns(Config):
    """Which column of the source holds what."""

    question: str = "question"
    """Text of the question; may hold `<image>` placeholders."""
    answer: str = "answer"
    """Gold answer; an enclosing \\boxed{} is removed."""
    image: str = "image"
    """One image or a list of them: a path (relative to the file), a URI, bytes, or a Hugging Face image."""
    uid: str | None = None
    """Unique name of the row; the row number when None."""
    kind: str | None = None
    """integer, float, choice or text; inferred from answer and choices when None."""
    category: str | None = None
    """Name for accuracy by category."""
    origin: str | None = None
    """Name of the collection that the row comes from."""
    pass_rate: str | None = None
    """Share of right answers that some model gave, 0 to 1; null or negative where nobody measured it."""
    choices: str | None = None
    """List of option texts."""


class Virl39kColumns(Columns):
    """The columns of ViRL39K."""

    uid: str | None = "qid"
    """Unique name of the row."""
    category: str | None = "category"
    """Name for accuracy by category."""
    origin: str | None = "source"
    """Collection that the row was taken from."""
    pass_rate: str | None = "PassRate_32BTrained"
    """Share of right answers of a model; `PassRate_7BBase` is the other; half of it was never measured."""


class ForeignProblems(Config):
    """Rows of somebody else's table: where they are, which are used, how they are split."""

    source: str
    """Path or URI of a .parquet, .jsonl or .json file, a folder of parquet files or of `save_to_disk`, or a Hugging
    Face dataset id. Image paths start from the table's folder; `images.zip` there need not be unpacked."""
    heldout_source: str | None = None
    """The same for the held-out problems; None: a share of `source` is held out."""
    split: str | None = "train"
    """Split of a Hugging Face dataset; None: its files as they are published, a table with images beside it."""
    heldout_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share held out when `heldout_source` is None; rows that show the same image stay together."""
    columns: Columns = Columns()
    """Which column holds what."""
    max_bad_share: Share = 0.05
    """Above this share of unusable rows the run stops instead of training on what is left."""
    without_origins: tuple[str, ...] = ()
    """Collections whose rows are left out."""
    categories: tuple[str, ...] = ()
    """Only rows of these; empty: of all."""
    min_pass_rate: Share = 0.0
    """Rows below are left out: hopeless problems, whose groups carry no gradient."""
    max_pass_rate: Share = 1.0
    """Rows above are left out: problems that everybody solves."""
    unrated: bool = True
    """Keep rows whose pass rate nobody measured?"""
    benchmarks: dict[str, str | None] = {}
    """Benchmarks that the rows are held against, by name (mathvista, mathverse-all ...), with a source as for `racro
    evaluate`; null: the authors'. A row overlaps by an image, by one that looks the same, or by its text."""
    overlapping: Literal["drop", "keep"] = "drop"
    """What becomes of rows that overlap; they are listed either way."""

    @model_validator(mode="after")
    def _selects_something(self) -> ForeignProblems:
        if self.min_pass_rate > self.max_pass_rate:
            raise ValueError(f"min_pass_rate {self.min_pass_rate:g} is above max_pass_rate {self.max_pass_rate:g}")
        for wanted, column in (("without_origins", "origin"), ("categories", "category")):
            if getattr(self, wanted) and getattr(self.columns, column) is None:
                raise ValueError(f"{wanted} needs columns.{column}")
        if (self.min_pass_rate, self.max_pass_rate, self.unrated) != (0, 1, True) and self.columns.pass_rate is None:
            raise ValueError("a filter by pass rate needs columns.pass_rate")
        return self


class TableProblems(ForeignProblems):
    """Rows of a parquet or jsonl file, or of a Hugging Face dataset, by a column mapping."""

    type: Literal["table"] = "table"


class Virl39kProblems(ForeignProblems):
    """ViRL39K (TIGER-Lab), as published: a parquet file with images.zip beside it, here or on the hub."""

    type: Literal["virl39k"] = "virl39k"
    source: str = "TIGER-Lab/ViRL39K"
    """The hub id, or a folder with its files."""
    split: str | None = None
    """None: the files as they are published."""
    columns: Virl39kColumns = Virl39kColumns()
    """Which column holds what."""
    without_origins: tuple[str, ...] = ("DeepScaleR",)
    """The official filter: these are text only."""


Problems = Annotated[EmbeddedProblems | TableProblems | Virl39kProblems, Field(discriminator="type")]


# --- engines and models -----------------------------------------------------------------------------------------------


class TransformersEngine(Config):
    """Hugging Face transformers in process: one prefill per prompt, its KV cache repeated for the group."""

    type: Literal["transformers"] = "transformers"


class ScriptedReply(Config):
    """What the scripted engine answers to prompts that match."""

    when: str = "(?s).*"
    """Regular expression searched in the text of the last user message."""
    replies: tuple[str, ...]
    """One reply per sample, in turn; \\1 and so on stand for the groups of `when`."""
    delay: Annotated[float, Field(ge=0)] = 0.0
    """Seconds before each reply; beyond the request deadline the request counts as failed."""
    tokens: PositiveInt | None = None
    """Pretended length; None: the reply's bytes. Above `max_tokens` the reply is cut and `finish_reason` is length."""


class ScriptedEngine(Config):
    """No model: replies by rules. For tests, examples and dry runs of a workflow."""

    type: Literal["scripted"] = "scripted"
    rules: tuple[ScriptedReply, ...] = (ScriptedReply(replies=("unknown",)),)
    """The first rule that matches answers; no match is an error."""


class VllmEngine(Config):
    """vLLM as a library, in a child process: continuous batching over the whole stage, prefix caching."""

    type: Literal["vllm"] = "vllm"
    quantization: str | None = None
    """fp8, awq, gptq ...: of a frozen reasoner whose checkpoint does not say it itself."""
    max_model_len: PositiveInt | None = None
    """Longest prompt with answer; the model's own when None."""


class ServerEngine(Config):
    """An OpenAI-compatible endpoint: those of `runtime.<role>.urls`, else a vLLM server that is started and stopped."""

    type: Literal["server"] = "server"
    quantization: str | None = None
    """As for `vllm`; of a server that is started."""
    max_model_len: PositiveInt | None = None
    """As for `vllm`; of a server that is started."""


Engine = Annotated[TransformersEngine | VllmEngine | ServerEngine | ScriptedEngine, Field(discriminator="type")]
DType = Literal["float32", "bfloat16", "float16"]
Linear = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Lora(Config):
    """Low-rank adapters (arXiv 2106.09685) of the language model's linear layers."""

    rank: Annotated[int, Field(ge=1, le=512)] = 16
    """Columns of the two matrices by which a layer is changed."""
    alpha: PositiveInt = 32
    """Their product is multiplied by alpha / rank."""
    targets: Annotated[tuple[Linear, ...], Field(min_length=1)] = get_args(Linear)
    """The layers that are changed."""


class Captioner(Config):
    """The vision-language model that is trained."""

    model: str = "Qwen/Qwen2.5-VL-3B-Instruct"
    """`embedded`, a local folder of a model or of a LoRA adapter, or a hub id."""
    revision: str | None = None
    """Commit, tag or branch of a hub model."""
    dtype: DType = "bfloat16"
    """Precision of weights in engine and trainer."""
    engine: Engine = TransformersEngine()
    """What generates captions."""
    lora: Lora | None = None
    """Train an adapter and leave the weights as they are. None: all weights, or `model` where that is an adapter."""


class Reasoner(Config):
    """The frozen text-only model. Swap it and retrain nothing."""

    model: str = "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"
    """`embedded`, a local folder, or a hub id."""
    revision: str | None = None
    """Commit, tag or branch of a hub model."""
    dtype: DType = "bfloat16"
    """Precision of the weights."""
    engine: Engine = TransformersEngine()
    """What generates answers."""
    temperature: Annotated[float, Field(ge=0)] = 1.0
    """Sampling temperature in training; 0 is greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling in training."""
    max_tokens: PositiveInt = 8192
    """Longest answer; beyond it the verdict is `truncated`."""


# --- stages -----------------------------------------------------------------------------------------------------------


class Rollout(Config):
    """Stage caption: what one iteration samples."""

    problems: PositiveInt = 256
    """Problems per iteration (P)."""
    group_size: Annotated[int, Field(ge=2)] = 4
    """Captions per problem (G)."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Sampling temperature; the policy gradient is exact at 1."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling."""
    max_tokens: PositiveInt = 8192
    """Longest caption."""


class Reward(Config):
    """Stage reason: from verdicts to rewards."""

    kind: Literal["answer"] = "answer"
    """answer: 1 when the reasoner's answer from the caption is right, 0 when it is wrong (RACRO)."""
    penalty: Share = 0.0
    """Taken from a reward of 1 when the text does not describe the image, as the policy itself judges (RAPID: 0.1)."""
    truncated: Literal["wrong", "unscored"] = "wrong"
    """How a reasoner's output that hit the token limit counts."""
    max_unscored: Share = 0.2
    """Above this share of unscored captions the run stops."""


class Update(Config):
    """Stage update: GRPO on the stored rollouts."""

    learning_rate: Annotated[float, Field(ge=0)] = 1e-6
    """Constant after warm-up."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Optimizer steps of linear warm-up, counted over the whole training."""
    beta: Annotated[float, Field(ge=0)] = 1e-3
    """Weight of KL(policy || initial policy), k3 estimator."""
    clip_low: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """PPO clip below: ratio >= 1 - clip_low."""
    clip_high: Annotated[float, Field(gt=0)] = 0.2
    """PPO clip above: ratio <= 1 + clip_high."""
    mini_batch: PositiveInt = 128
    """Problems per optimizer step."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """AdamW weight decay."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradient norm is clipped to this."""
    importance_cap: Annotated[float, Field(ge=1)] = 2.0
    """Cap of the engine-to-trainer importance ratio (truncated importance sampling)."""
    max_logprob_gap: Annotated[float, Field(gt=0)] = 0.05
    """The run stops when engine and trainer differ by more, mean |log-prob difference| per token."""


class Evaluation(Config):
    """Stage evaluate: greedy captions of held-out problems, answered by the reasoner."""

    every: PositiveInt = 10
    """Iterations between evaluations; the start and the end are always evaluated."""
    problems: PositiveInt = 1000
    """Held-out problems."""
    temperature: Annotated[float, Field(ge=0)] = 0.6
    """Reasoner's temperature."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Reasoner's nucleus."""


# --- runtime ----------------------------------------------------------------------------------------------------------


class Timeouts(Config):
    """Seconds after which a stage is given up."""

    fingerprint: Seconds = 6 * 3600
    """Reading one benchmark."""
    prepare: Seconds = 6 * 3600
    """Preparing a data set."""
    parity: Seconds = 3600
    """Comparing engine and trainer before the first iteration."""
    caption: Seconds = 6 * 3600
    """Captioning one iteration."""
    reason: Seconds = 6 * 3600
    """Answering one iteration."""
    update: Seconds = 6 * 3600
    """One update."""
    evaluate: Seconds = 6 * 3600
    """One evaluation in a training."""
    load: Seconds = 6 * 3600
    """Reading one benchmark for an evaluation."""
    describe: Seconds = 6 * 3600
    """Captions of one part of a benchmark."""
    attempt: Seconds = 6 * 3600
    """The captioner's own answers to one part."""
    answer: Seconds = 6 * 3600
    """The reasoner's answers to one part."""
    grade: Seconds = 3600
    """Grading one benchmark in one mode."""
    aggregate: Seconds = 3600
    """Its metrics."""


class Place(Config):
    """Where a role's engine runs, and how much of the machine it takes."""

    worker: bool | None = None
    """In a child process of its own? None: vLLM is, the others are not."""
    gpus: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """GPUs by number; empty: those that the process sees."""
    tensor_parallel: PositiveInt = 1
    """GPUs that share one copy of the model."""
    data_parallel: PositiveInt = 1
    """Copies of the model, each a process of its own, among which prompts are balanced."""
    gpu_memory: Annotated[float, Field(gt=0, le=1)] = 0.85
    """Share of a GPU's memory that vLLM takes."""
    cpu_cache: Annotated[float, Field(gt=0)] = 1.0
    """GiB of vLLM's KV cache where it runs on a CPU."""
    sequences: PositiveInt = 256
    """Sequences that are decoded at once, or requests in flight to an endpoint."""
    eager: bool | None = None
    """Without CUDA graphs and compilation: starts in seconds. None: on CPUs."""
    urls: tuple[str, ...] = ()
    """Base URLs of running endpoints, `http://host:8000/v1`, for the engine `server`."""
    api_key: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key of those endpoints."""
    start_deadline: Seconds = 900.0
    """Seconds until an engine that was started must answer."""
    silence: Seconds = 120.0
    """Seconds without a sign of life after which an engine's process counts as hung; a step of vLLM's is one."""


class Runtime(Config):
    """Where and how fast. Changes no digest and no cache key."""

    captioner: Place = Place()
    """The captioner's engine."""
    reasoner: Place = Place()
    """The reasoner's engine."""
    streaming: bool = True
    """Ask the reasoner about captions as they finish, where it runs in a process of its own."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1 ..."""
    caption_batch: PositiveInt = 16
    """Problems per engine batch when captioning."""
    reason_batch: PositiveInt = 64
    """Prompts per engine batch when reasoning."""
    micro_batch: PositiveInt = 4
    """Captions per forward and backward pass of the update; a mini-batch is made of whole ones."""
    gradient_checkpointing: bool = True
    """Trade a third more compute for activation memory."""
    request_deadline: Seconds = 1800.0
    """Seconds one engine batch may take; what is unfinished then counts as failed."""
    cache: Annotated[float, Field(gt=0)] = 100.0
    """GiB of this machine's disk for what is downloaded from a remote root: policies, images."""
    retries: Annotated[int, Field(ge=0)] = 2
    """Retries of a stage after a failure that can heal (storage, lost engine)."""
    retry_delay: Annotated[float, Field(ge=0)] = 5.0
    """Seconds before the first retry; doubled each time."""
    timeouts: Timeouts = Timeouts()
    """Per stage."""


class Recipe(Config):
    """A training, completely: same recipe and seed, same policy."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of everything random."""
    iterations: PositiveInt = 100
    """Rounds of caption -> reason -> update (K)."""
    problems: Problems = EmbeddedProblems()
    """Where questions, images and gold answers come from."""
    captioner: Captioner = Captioner()
    """The trained model."""
    reasoner: Reasoner = Reasoner()
    """The frozen model."""
    rollout: Rollout = Rollout()
    """Sampling of captions."""
    reward: Reward = Reward()
    """From verdicts to rewards."""
    update: Update = Update()
    """GRPO."""
    evaluation: Evaluation = Evaluation()
    """Held-out accuracy."""
    runtime: Runtime = Runtime()
    """The machine."""

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if self.update.mini_batch > self.rollout.problems:
            raise ValueError(
                f"update.mini_batch ({self.update.mini_batch} problems) is larger than rollout.problems "
                f"({self.rollout.problems}): a mini-batch is a part of an iteration"
            )
        return self
