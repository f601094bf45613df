"""Errors of a request are sentences; bugs show a traceback; Ctrl-C is neither."""

import errno
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import worldblocks as wb
from worldblocks.run import launch_tool, pick_device, sentences
from worldblocks.spaces import Discrete


def no_space():
    raise OSError(errno.ENOSPC, "No space left on device", "/runs/a")


def ours():
    pick_device("no_such_device")


def own_raise():
    raise ValueError("--tasks takes one or more tasks")


def not_installed():
    raise ImportError("give up")


def missing():
    raise KeyError("no tensors under 'agent'")


@pytest.mark.parametrize(
    ("fail", "sentence"),
    [
        (no_space, "No space left on device: /runs/a"),
        (lambda: Path("/no/such/file").read_text(), "No such file or directory: /no/such/file"),
        (ours, "there is no device 'no_such_device' on this machine; --device takes auto or one"),
        (own_raise, "--tasks takes one or more tasks"),
        (not_installed, "give up"),
        (missing, "no tensors under 'agent'"),
        (lambda: wb.envs.gym(lambda: None), "wb.envs.gym got None from <function"),
        (lambda: np.empty(2**60, np.uint8), "out of memory: Unable to allocate 1.00 EiB for an"),
        (lambda: torch.empty(2**60), "out of memory: can't allocate memory: you tried to allocate"),
    ],
)
def test_a_request_that_fails_is_a_sentence(fail, sentence, monkeypatch):
    with pytest.raises(SystemExit) as stopped, sentences(__name__):
        fail()
    assert str(stopped.value.code).startswith(sentence)
    monkeypatch.setattr(sys, "argv", ["tool.py", "--debug"])
    with pytest.raises(Exception, match=r"\w") as shown, sentences(__name__):
        fail()
    assert not isinstance(shown.value, SystemExit)


@pytest.mark.parametrize(
    ("bug", "kind"),
    [
        (lambda: int("x"), ValueError),  # no `raise` of ours
        (lambda: {}["key"], KeyError),
        (lambda: [][1], IndexError),
        (lambda: None.name, AttributeError),  # type: ignore[attr-defined]
        (lambda: Discrete(), TypeError),  # type: ignore[call-arg]
        (lambda: 1 / 0, ZeroDivisionError),
    ],
)
def test_a_bug_shows_its_traceback(bug, kind):
    with pytest.raises(kind), sentences(__name__):
        bug()


def test_an_error_raised_elsewhere_shows_its_traceback():
    with pytest.raises(ValueError, match="--tasks"), sentences():
        own_raise()


def test_ctrl_c_is_an_exit_code(capsys):
    with pytest.raises(SystemExit, match="130"), sentences():
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "interrupted\n"


def test_a_tool_with_a_folder_in_the_home(monkeypatch, tmp_path):
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Config:
        run: Path
        logdir: str = ""

    made = []
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["t.py", "--run", "~/a", "--logdir", "~/b", "--debug"])
    assert launch_tool(lambda cfg: bool(made.append(cfg)), Config, "What it does.") == 0
    assert made == [Config(tmp_path / "a", str(tmp_path / "b"))]


def test_a_warning_is_a_line_without_its_place(monkeypatch):
    def shown():
        return warnings.formatwarning("a byte image", UserWarning, "build.py", 60)

    before = shown()
    with sentences():
        assert shown() == "warning: a byte image\n"
    monkeypatch.setattr(sys, "argv", ["recipe.py", "--debug"])
    with sentences():
        assert shown() == before
    assert shown() == before
