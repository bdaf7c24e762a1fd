"""Hugging Face model folders: finding them by name, loading tokenizer, processor and weights, computing their digest.

All models are loaded here, so that engine and trainer see the same tokens and pixels. Imports torch and transformers on
use.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from racro.config import PixelRange
from racro.errors import BadInput
from racro.models import making
from racro.models.adapters import WEIGHTS as ADAPTER_WEIGHTS
from racro.models.adapters import Adapter, BadAdapter, attach
from racro.models.pixels import UNLIMITED, limit
from racro.storage.layout import LINEAGE, RECORD

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

EMBEDDED = Path(__file__).parents[1] / "embedded" / "models"
"""The two tiny models that ship with the package: `captioner` and `reasoner`."""

READER_SUFFIXES = (".json", ".jinja", ".model", ".txt", ".tiktoken", ".bpe")
"""The files of a model folder that say how it reads prompts: configuration, template, tokenizer, processor."""
IDENTITY_SUFFIXES = (".safetensors", *READER_SUFFIXES)
"""The files that change what a model answers, its weights being in safetensors."""
OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack", ".gguf", ".ggml", ".onnx", ".npz", ".npy")
"""Weights in other formats. They are counted unless there are safetensors, which are loaded in their place."""
LOADABLE = (".safetensors", ".bin")
"""The formats that engines and trainer load."""
LOADED = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""The names by which transformers finds weights; vLLM takes any safetensors."""
PREFERRED = ("model.safetensors", "model.safetensors.index.json", ADAPTER_WEIGHTS)
"""Where one of these files is, no other format is loaded."""
TRAINER = "trainer"
"""Folder beside the weights of a trained model with the state that the next update needs."""


class ModelNotFound(BadInput):
    """A model name that is neither `embedded`, nor a folder, nor a repository on Hugging Face or in its local cache."""


def embedded(sees: bool) -> Path:
    """The folder of the embedded model that is shown images, or of the one that is not."""
    return EMBEDDED / ("captioner" if sees else "reasoner")


def model_folder(
    name: str, role: str, revision: str | None = None, weights: bool = True, sees: bool | None = None
) -> Path:
    """The local folder of a model. `name`: `embedded`, a folder, or a Hugging Face id (downloaded once, then cached).

    `role` is `captioner`, `reasoner` or `judges.NAME`; without `weights`, only what reads prompts is downloaded.
    `sees`: it is shown images; None: if it is a captioner. Raises ModelNotFound.
    """
    if name == "embedded":
        return embedded(role == "captioner" if sees is None else sees)
    folder = Path(name)
    if folder.is_dir():
        require_model(folder, role)
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    def download(suffixes: tuple[str, ...]) -> Path:
        return Path(snapshot_download(name, revision=revision, allow_patterns=[f"*{suffix}" for suffix in suffixes]))

    try:
        folder = download(IDENTITY_SUFFIXES if weights else READER_SUFFIXES)
        if weights and not any(folder.glob("*.safetensors")):
            folder = download((*READER_SUFFIXES, ".bin"))
        return folder
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelNotFound(
            f"{role}.model: {name!r} is not a folder and could not be downloaded from Hugging Face "
            f"({type(error).__name__}); check the name, or give the path of a local copy"
        ) from error


def lasting_name(name: str) -> str:
    """A name of the model that means the same in any working directory."""
    return str(Path(name).resolve()) if name != "embedded" and Path(name).is_dir() else name


def require_model(folder: Path, role: str) -> None:
    """Raises ModelNotFound unless the folder holds a model, or a LoRA adapter whose model can be found."""
    base = base_folder(folder)
    if not (base / "config.json").is_file():
        raise ModelNotFound(f"{role}.model: the folder {folder} holds no config.json; is it a model folder?")
    by_vllm = role != "captioner" and any(base.glob("*.safetensors"))
    if not by_vllm and not any((base / name).is_file() for name in LOADED):
        weights = (".safetensors", *OTHER_WEIGHTS)
        found = ", ".join(sorted(file.name for file in base.iterdir() if file.suffix in weights)) or "none"
        raise ModelNotFound(
            f"{role}.model: the folder {base} holds no weights that can be loaded (found: {found}); save the model as "
            "model.safetensors"
        )
    if missing := _missing_shards(base):
        raise ModelNotFound(
            f"{role}.model: the folder {base} lacks {missing[0]}"
            + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
            + ", which its index names; get the model again"
        )


def _missing_shards(folder: Path) -> list[str]:
    """Files of weights that a folder's index names and that are not there."""
    for whole in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{whole}.index.json"
        if (folder / whole).is_file():
            return []
        if index.is_file():
            try:
                named = {str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
            except (ValueError, KeyError, TypeError, AttributeError):
                return [f"a readable {index.name}"]
            return sorted(name for name in named if not (folder / name).is_file())
    return []


def base_folder(folder: Path) -> Path:
    """The folder with configuration, tokenizer and processor: this one, or that of the model it adapts.

    Raises BadAdapter.
    """
    adapter = Adapter.read(folder)
    if adapter is None:
        return folder
    if Adapter.read(Path(adapter.base)) is not None:
        raise BadAdapter(f"{folder} adapts {adapter.base}, an adapter too; merge that one into its model first")
    try:
        return model_folder(adapter.base, "captioner", adapter.revision)
    except ModelNotFound as error:
        raise BadAdapter(f"{folder}: the model that it adapts was not found: {error}") from error


def model_digest(folder: Path, suffixes: tuple[str, ...] = ()) -> str:
    """Digest of the files that determine what the model answers: weights, configuration, tokenizer, processor.

    The digest of an adapter covers its model. `suffixes`: count only these files.
    """
    digest = hashlib.sha256()
    if (base := base_folder(folder)) != folder:
        digest.update(f"base:{model_digest(base, suffixes)}\n".encode())
    counted = suffixes or _identity_suffixes(folder)
    for file in sorted(folder.iterdir()):
        if file.suffix in counted and file.name not in (RECORD, LINEAGE) and file.is_file():
            with file.open("rb") as stream:
                digest.update(f"{file.name}:{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _identity_suffixes(folder: Path) -> tuple[str, ...]:
    safe = any((folder / name).is_file() for name in PREFERRED)
    return IDENTITY_SUFFIXES if safe else (*IDENTITY_SUFFIXES, *OTHER_WEIGHTS)


def let_others_read(folder: Path) -> None:
    """Weights just saved get the mode of the configuration beside them: safetensors writes for its owner alone."""
    config = next(folder.glob("*config.json"))
    for weights in folder.glob("*.safetensors"):
        shutil.copymode(config, weights)


def max_positions(folder: Path) -> int | None:
    """Tokens of prompt and answer together, at most, by a model's configuration; None where it does not say."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    parts = [config.get(key) for key in ("text_config", "llm_config", "language_config")]
    found = [part["max_position_embeddings"] for part in (*parts, config) if part and "max_position_embeddings" in part]
    return found[0] if found else None


def torch_device(name: str) -> torch.device:
    """The device of that name; `auto`: the first GPU, or the CPU if there is none."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer, with padding on the left: completions start where prompts end.

    One without a padding token pads with its end token; the attention mask says what is padding.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base_folder(folder), padding_side="left")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_processor(folder: Path, pixels: PixelRange = UNLIMITED) -> Any:
    """The processor of a vision-language model: images and text -> model inputs, padded on the left.

    pixels: limits on the size of images. Raises NoPixelLimits.

    Each caller gets its own: a tokenizer must not be used by two threads. A copy takes less than a load.
    """
    base = base_folder(folder)
    processor = copy.deepcopy(_processor(base, model_digest(base, READER_SUFFIXES)))
    limit(processor, pixels)
    return processor


@functools.lru_cache(maxsize=4)
def _processor(base: Path, content: str) -> Any:
    """The processor as its folder has it, while the folder has this content.

    Qwen2.5-VL's processor requires a video processor, which needs torchvision; images do not. So without torchvision
    the class is told that it has no video processor.
    """
    from transformers import AutoProcessor
    from transformers.utils import is_torchvision_available

    if not is_torchvision_available():
        from transformers import Qwen2_5_VLProcessor

        Qwen2_5_VLProcessor.get_attributes = classmethod(lambda cls: ["image_processor", "tokenizer"])
    processor = AutoProcessor.from_pretrained(base, padding_side="left")
    processor.tokenizer = load_tokenizer(base)
    return processor


def load_captioner(folder: Path, dtype: str, device: torch.device) -> PreTrainedModel:
    """The vision-language model in evaluation mode; with its adapter, if `folder` is one.

    Raises BadAdapter, NotWhole.
    """
    from transformers import AutoModelForImageTextToText

    _no_bars()
    base = base_folder(folder)
    model = making.from_folder(AutoModelForImageTextToText, base, dtype)
    if base != folder:
        model = attach(model, folder).get_base_model()
    return model.to(device).eval()


def load_reasoner(folder: Path, dtype: str, device: torch.device) -> PreTrainedModel:
    """The frozen model in evaluation mode: a text-only one, or a vision-language model that is shown no images.

    Raises NotWhole.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    _no_bars()
    kind = type(AutoConfig.from_pretrained(folder))
    causal = kind in AutoModelForCausalLM._model_mapping
    auto = AutoModelForCausalLM if causal else AutoModelForImageTextToText
    return making.from_folder(auto, folder, dtype).to(device).eval()


def _no_bars() -> None:
    """Hides the progress bars that transformers draws for each load; they would disturb ours."""
    from transformers.utils import logging

    logging.disable_progress_bar()
