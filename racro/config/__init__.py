"""Which settings are there? The recipe: one frozen pydantic model, one YAML file, the form in the Prefect UI.

Everything outside `runtime` and `alarms` is identity: it changes the result, and with it digests and cache keys.
`runtime` says where and how fast, `alarms` when to warn or stop, and they change neither. The defaults are those of the
paper (RACRO v1, 3B). One file per section; YAML files and overrides are read by `racro.config.loading`. Never loads
torch.
"""

from racro.config.advantage import (
    Advantage,
    BatchAdvantage,
    EmaAdvantage,
    GdpoAdvantage,
    GroupAdvantage,
    NoneAdvantage,
)
from racro.config.alarms import Alarms
from racro.config.base import Config, Seconds, Share
from racro.config.cluster import LocalCluster, RayCluster
from racro.config.curriculum import (
    Curriculum,
    OrderCurriculum,
    PoolsCurriculum,
    UniformCurriculum,
    VarianceCurriculum,
    WeightedCurriculum,
)
from racro.config.engines import EngineChoice, Scripted, ScriptedReply, Server, Transformers, Vllm
from racro.config.judging import judges_of
from racro.config.models import (
    JUDGES,
    REASONERS,
    Captioner,
    DType,
    Judge,
    Linear,
    Lora,
    ModelSection,
    PixelRange,
    Reasoner,
)
from racro.config.modes import ModeSettings
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
from racro.config.rewards import (
    AnswerReward,
    ConfidenceReward,
    CorrectnessReward,
    DescribesReward,
    FactsReward,
    FormatReward,
    LengthReward,
    McqReward,
    MinimalReward,
    PythonReward,
    RetrievalReward,
    Reward,
    RewardBase,
    SelfReward,
)
from racro.config.runtime import Address, EnginePlacement, Runtime, Timeouts, TrainerPlacement
from racro.config.stages import Objective, TrainingStage
from racro.config.training import EvaluationSettings, Part, RolloutSettings, UpdateSettings

__all__ = [
    "JUDGES",
    "REASONERS",
    "Address",
    "Advantage",
    "Alarms",
    "AnswerReward",
    "BatchAdvantage",
    "Captioner",
    "Columns",
    "ConfidenceReward",
    "Config",
    "CorrectnessReward",
    "Curriculum",
    "DType",
    "DescribesReward",
    "EmaAdvantage",
    "EmbeddedProblems",
    "EngineChoice",
    "EnginePlacement",
    "EvaluationSettings",
    "FactsReward",
    "ForeignProblems",
    "FormatReward",
    "GdpoAdvantage",
    "GroupAdvantage",
    "Judge",
    "LengthReward",
    "Linear",
    "LocalCluster",
    "Lora",
    "McqReward",
    "MinimalReward",
    "ModeSettings",
    "ModelSection",
    "NoneAdvantage",
    "Objective",
    "OrderCurriculum",
    "Part",
    "PixelRange",
    "PoolsCurriculum",
    "Problems",
    "PythonReward",
    "RayCluster",
    "Reasoner",
    "Recipe",
    "RetrievalReward",
    "Reward",
    "RewardBase",
    "RolloutSettings",
    "Runtime",
    "Scripted",
    "ScriptedReply",
    "Seconds",
    "SelfReward",
    "Server",
    "Share",
    "TableProblems",
    "Timeouts",
    "TrainerPlacement",
    "TrainingStage",
    "Transformers",
    "UniformCurriculum",
    "UpdateSettings",
    "VarianceCurriculum",
    "Virl39kColumns",
    "Virl39kProblems",
    "Vllm",
    "WeightedCurriculum",
    "judges_of",
]
