"""Which settings are there? The recipe: one frozen pydantic model, one YAML file, the form in the Prefect UI.

Everything outside `runtime` is identity: it changes the result, and with it digests and cache keys. `runtime` says
where and how fast, and changes neither. The defaults are those of the paper (RACRO v1, 3B). One file per section; YAML
files and overrides are read by `racro.config.loading`. Never loads torch.
"""

from racro.config.base import Config, Seconds, Share
from racro.config.engines import EngineChoice, Scripted, ScriptedReply, Server, Transformers, Vllm
from racro.config.models import Captioner, DType, Linear, Lora, PixelRange, Reasoner
from racro.config.problems import (
    Columns,
    EmbeddedProblems,
    ForeignProblems,
    Problems,
    TableProblems,
    Virl39kColumns,
    Virl39kProblems,
)
from racro.config.recipe import Recipe
from racro.config.runtime import EnginePlacement, Runtime, Timeouts, TrainerPlacement
from racro.config.training import EvaluationSettings, Part, RewardSettings, RolloutSettings, UpdateSettings

__all__ = [
    "Captioner",
    "Columns",
    "Config",
    "DType",
    "EmbeddedProblems",
    "EngineChoice",
    "EnginePlacement",
    "EvaluationSettings",
    "ForeignProblems",
    "Linear",
    "Lora",
    "Part",
    "PixelRange",
    "Problems",
    "Reasoner",
    "Recipe",
    "RewardSettings",
    "RolloutSettings",
    "Runtime",
    "Scripted",
    "ScriptedReply",
    "Seconds",
    "Server",
    "Share",
    "TableProblems",
    "Timeouts",
    "TrainerPlacement",
    "Transformers",
    "UpdateSettings",
    "Virl39kColumns",
    "Virl39kProblems",
    "Vllm",
]
