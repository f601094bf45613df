"""A file of JSON lines that caches the replies of a language model and replays them."""

import contextlib
import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.language.backends.entries import DIGITS, key_of, pack, scored, unpack, valid
from worldblocks.language.backends.limits import check_pairs, check_reply, check_texts
from worldblocks.language.backends.replies import check_json
from worldblocks.language.model import LanguageModel, Malformed, Messages, NotCached, require
from worldblocks.typing import typed


class CachedLM(LanguageModel):
    """Caches the replies of a language model, so that each request runs once.

    A line holds the request, the reply, the model's name and `identity`, and a key: the SHA-256 of
    everything but the reply. The file is readable text, and nothing is unpickled. A line whose key
    does not match its request is an error. A line that a killed process left half-written is
    skipped. Several processes may write to one file. Malformed replies are not stored. Numbers are
    rounded before the first return, so that it equals every replay: log-probabilities to 5 digits,
    vectors to half precision.

    Args:
        inner: the model; None replays a file without a model and needs `offline`.
        path: the file; it and its folder are created with the first reply.
        offline: never ask the model; raise `NotCached` where the file has no reply.
        template: version of the prompts, part of each key; change it when their wording changes.

    Raises:
        ValueError: the file was edited, or `inner` is None and the file is not of one model.
    """

    def __init__(
        self,
        inner: LanguageModel | None,
        path: str | Path,
        *,
        offline: bool = False,
        template: str = "",
    ) -> None:
        self._inner, self._path, self._template = inner, Path(path), template
        self._offline = offline
        if inner is None and not offline:
            raise ValueError("CachedLM got no model to ask; give one, or replay with offline=True")
        self._entries = _read(self._path)
        if inner is None:
            self.name, self._identity, self.capabilities = _only_model(self._path, self._entries)
            return
        if not inner.identity:
            raise ValueError(
                f"CachedLM got {inner.name}, which has no identity (a hash of its weights, or an "
                f"address) to tell its replies from those of another model; define one"
            )
        self.name, self._identity = inner.name, inner.identity
        self.capabilities = inner.capabilities - {"train"}
        self.follows_schemas = inner.follows_schemas

    @property
    def identity(self) -> str:
        """The identity of the wrapped model."""
        return self._identity

    def __len__(self) -> int:
        """Number of replies in the file, from all models."""
        return len(self._entries)

    def generate(
        self,
        messages: Messages,
        *,
        max_tokens: int,
        temperature: float = 0.0,
        schema: dict[str, Any] | None = None,
        seed: int | None = None,
    ) -> str:
        """See `LanguageModel.generate`; sampling needs a seed.

        Raises:
            NotCached: offline, and the file has no reply.
            ValueError: a temperature above 0 without a seed.
        """
        require(self, "generate")
        if temperature and seed is None:
            raise ValueError(
                f"CachedLM was asked for a sample at temperature {temperature} without a seed, and "
                f"would replay the same one each time; give seed=0, 1, …"
            )
        options: dict[str, Any] = {"max_tokens": max_tokens, "temperature": float(temperature)}
        options |= {"seed": seed, "schema": schema}
        asked = self._asked("generate", messages=[dict(m) for m in messages], **options)
        entry = self._entries.get(key_of(asked))
        if entry is None:
            reply = check_reply(self.name, self._ask(asked).generate(messages, **options))
            entry = self._keep(
                asked, reply if schema is None else check_json(self.name, reply, schema)
            )
        return entry["reply"]

    @typed
    def score(self, contexts: list[str], completions: list[str]) -> Float[Tensor, " pairs"]:
        """See `LanguageModel.score`; one line per call.

        Raises:
            NotCached: offline, and the file has no reply.
        """
        require(self, "score")
        check_pairs(self.name, contexts, completions)
        asked = self._asked("score", **scored(contexts, completions))
        entry = self._entries.get(key_of(asked))
        if entry is None:
            found = self._ask(asked).score(contexts, completions)
            if not found.isfinite().all():
                raise Malformed(f"{self.name} gave scores that are not finite: {found.tolist()}")
            entry = self._keep(asked, [round(x, DIGITS) for x in found.tolist()])
        return torch.tensor(entry["reply"], dtype=torch.float32)

    @typed
    def embed(self, texts: list[str]) -> Float[Tensor, "texts embed"]:
        """See `LanguageModel.embed`; one line per text.

        Raises:
            NotCached: offline, and the file has no reply.
        """
        require(self, "embed")
        check_texts(self.name, texts)
        asked = {text: self._asked("embed", text=text) for text in texts}
        missing = [text for text, entry in asked.items() if key_of(entry) not in self._entries]
        if missing:
            found = self._ask(asked[missing[0]]).embed(missing)
            for text, vector in zip(missing, found.numpy(), strict=True):
                self._keep(asked[text], pack(vector))
        rows = [unpack(self._entries[key_of(asked[text])]["reply"]) for text in texts]
        return torch.from_numpy(np.stack(rows))

    def _asked(self, method: str, **arguments: Any) -> dict[str, Any]:
        model = {"name": self.name, "identity": self.identity, "template": self._template}
        return {**model, "method": method, **arguments}

    def _ask(self, asked: dict[str, Any]) -> LanguageModel:
        """The model, or `NotCached` if offline."""
        if self._offline or self._inner is None:
            shown = json.dumps({k: asked[k] for k in list(asked)[4:]}, ensure_ascii=False)
            raise NotCached(
                f"{self._path} has no reply of {self.name} to {asked['method']} {shown:.300}; it "
                f"is offline: run once with the model and offline=False, which adds it"
            )
        return self._inner

    def _keep(self, asked: dict[str, Any], reply: Any) -> dict[str, Any]:
        entry = {"key": key_of(asked), **asked, "reply": reply}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        _append(self._path, json.dumps(entry, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        self._entries[entry["key"]] = entry
        return entry


def _append(path: Path, line: bytes) -> None:
    """Append a line in one write, after a line break if the last line is half-written."""
    with path.open("ab+") as file:
        with contextlib.suppress(ImportError):  # Windows has no lock; a line is still one write
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
        end = file.seek(0, os.SEEK_END)
        file.seek(max(end - 1, 0))
        torn = end and file.read(1) != b"\n"
        file.write((b"\n" if torn else b"") + line + b"\n")


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """The entries of a file by key; empty if there is no file."""
    entries, broken = {}, 0
    lines = path.read_bytes().splitlines() if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            broken += bool(line.strip())
            continue
        if not valid(entry) or entry["key"] != key_of(entry):
            raise ValueError(
                f"line {number} of {path} is not as the cache wrote it: its key does not match its "
                f"request, or it has no valid reply; remove the line"
            )
        entries[entry["key"]] = entry
    if broken:
        warnings.warn(
            f"{path} has {broken} half-written line(s), left by a killed process; they are skipped",
            stacklevel=3,
        )
    return entries


def _only_model(path: Path, entries: dict[str, Any]) -> tuple[str, str, frozenset[str]]:
    """Name, identity and capabilities of the one model in a file."""
    models = {(entry["name"], entry["identity"]) for entry in entries.values()}
    if len(models) != 1:
        names = ", ".join(sorted(name for name, _ in models)) or "none"
        raise ValueError(
            f"CachedLM without a model replays a file of one model, {path} has {names}; give the "
            f"model or another file"
        )
    ((name, identity),) = models
    return name, identity, frozenset(entry["method"] for entry in entries.values())
