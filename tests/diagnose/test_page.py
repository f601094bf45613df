"""The page about tiny agents, and the lights of planted faults."""

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import point_recipe as recipe
import pytest
import torch

import diagnose as tool
import worldblocks as wb
from worldblocks import diagnose
from worldblocks.diagnose import inputs
from worldblocks.diagnose.page import document
from worldblocks.diagnose.page.causes import SYMPTOMS
from worldblocks.diagnose.sections import policy
from worldblocks.envs import EnvVector

VOID = ("meta", "line", "rect", "circle", "polyline", "image")
KEYS = ["prediction", "kl", "categories", "reward", "value", "continue", "scale", "entropy"]
KEYS += ["gradients", "history"]


class Reader(HTMLParser):
    """Fails if tags do not close in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def played(agent, picture, rows=32, environments=4):
    cfg = recipe.dataclasses.replace(recipe.CFG, gray=picture)
    policy = wb.evaluate.AgentPolicy(recipe.act, agent, environments)
    return wb.evaluate.collect(policy, recipe.environments(cfg, environments, 1), rows)


def findings_of(sections):
    return {finding.name: finding for section in sections for finding in section.findings}


@pytest.fixture(scope="module")
def looks():
    """All sections about three untrained agents."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "SAMPLES", 2)
        torch.manual_seed(0)
        agents = {
            "image and vectors": recipe.new(True),
            "vectors alone": recipe.new(False),
            "faulty": faulty(recipe.new(False)),
        }
        return {
            name: diagnose.examine(recipe, agent, recipe.CFG, played(agent, name[0] == "i"))
            for name, agent in agents.items()
        }


def faulty(agent):
    """A latent without information, a policy with the smallest standard deviation."""
    with torch.no_grad():
        for out in (agent.rssm.latent.prior_out, agent.rssm.latent.posterior_out):
            out.weight.zero_()
            out.bias.zero_()
        agent.actor.outs[0][1].bias.fill_(-30.0)
    return agent


@pytest.mark.parametrize("kind", ["image and vectors", "vectors alone"])
def test_the_page_has_every_section(looks, kind, tmp_path):
    sections, findings = looks[kind], findings_of(looks[kind])
    assert [section.key for section in sections] == KEYS
    path = diagnose.write_page(tmp_path / "a" / "page.html", "a <run>", {"task": "t&t"}, sections)
    text = path.read_text()
    reader = Reader(text)
    assert reader.ids == KEYS
    assert "a &lt;run&gt;" in text
    assert "t&amp;t" in text
    for word in ("http", "<script", "nan", "tensor("):
        assert word not in text
    assert reader.tags.count("svg") > 12
    # The agent is untrained, and the page says so.
    assert findings["vector error 11 to 15 steps ahead"].light in ("amber", "red")
    assert findings["current range over running range"].light == "grey"
    picture = kind == "image and vectors"
    assert ("image error 11 to 15 steps ahead" in findings) == picture
    assert ("entropy of 'place'" in findings) == picture
    assert ("standard deviation of 'arm'" in findings) != picture
    assert findings["leaked gradients"].light == "green"
    assert findings["non-finite gradients"].light == "green"


def test_every_symptom_has_causes(looks):
    assert list(SYMPTOMS) == [*KEYS[:3], "units", *KEYS[3:]]
    for symptoms in SYMPTOMS.values():
        for symptom in symptoms.values():
            assert symptom.causes
            assert all(cause and remedy for cause, remedy in symptom.causes)
    for section in [section for sections in looks.values() for section in sections]:
        for finding in section.findings:
            wrong = finding.light in ("red", "amber")
            assert (finding.symptom in SYMPTOMS[section.key]) == wrong, finding


def test_a_dead_latent_and_a_collapsed_policy_are_red(looks):
    well, ill = (findings_of(looks[name]) for name in ("vectors alone", "faulty"))
    names = ["KL between posterior and prior", "information of a row"]
    names.append("standard deviation of 'arm'")
    assert [well[name].light for name in names] == ["green", "green", "green"]
    assert [ill[name].light for name in names] == ["red", "red", "red"]
    assert ill["KL between posterior and prior"].number.startswith("0 nats")
    assert ill["rows below the free nats"].number == "100% of the rows below 1 nat"
    # No gradient passes through the latent to the encoder.
    assert "dyn at encoder" in ill["missing gradients"].number


def test_a_collapsed_discrete_policy_is_red():
    agent = recipe.new(True).eval()
    with torch.no_grad():
        agent.actor.outs[0][0].bias[2] = 30.0
    seen = inputs.prepare(recipe, agent, recipe.CFG, played(agent, True, rows=4, environments=1))
    [finding] = policy.entropy_section(seen).findings
    assert (finding.light, finding.symptom) == ("red", "collapsed")
    assert finding.number.startswith("0.0%: ")


def test_few_rows_are_grey_with_the_reason():
    agent = recipe.new(False)
    sections = diagnose.examine(recipe, agent, recipe.CFG, played(agent, False, rows=2))
    findings = findings_of(sections)
    [finding] = sections[0].findings
    assert finding.light == "grey"
    assert finding.number.startswith("only 0 windows of 20 rows fit into an episode, 4 are needed")
    assert findings["gradients"].number == "fewer than 3 rows: increase --steps"
    assert findings["correlation of value and return"].light == "grey"
    assert findings["score"].number == "0 finished episodes in training, 12 are needed"
    Reader(document.page("few", {}, sections))


@pytest.mark.parametrize("picture", [True, False])
def test_judging_covers_what_the_agent_sees(picture, monkeypatch):
    monkeypatch.setattr(diagnose.held_out, "SAMPLES", 1)
    agent = recipe.new(picture)
    batch = played(agent, picture, rows=24)
    checks = diagnose.judge(agent, batch, gamma=0.9, seen=batch)
    kinds = ["image", "vector"] if picture else ["vector"]
    wanted = [f"open-loop {kind} error at 15 steps" for kind in kinds]
    assert [check.name for check in checks if " error at 15 steps" in check.name][::2] == wanted
    assert len(checks) == 4 * len(kinds) + 3


def test_examining_changes_nothing():
    agent = recipe.new(False).train()
    before = {name: value.clone() for name, value in agent.state_dict().items()}
    batch = played(agent, False, rows=9, environments=2)
    random = torch.get_rng_state()
    first, again = (diagnose.examine(recipe, agent, recipe.CFG, batch) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), random)
    assert agent.training
    assert all(torch.equal(before[name], value) for name, value in agent.state_dict().items())
    assert all(p.grad is None for p in agent.parameters())
    assert [section.findings for section in again] == [section.findings for section in first]


def test_the_summary_names_where_to_begin():
    make = lambda key, light: diagnose.Section(  # noqa: E731
        key, key.title(), "?", [diagnose.Finding("n", light, "1", "r")], []
    )
    sections = [make("prediction", "red"), make("kl", "amber"), make("history", "green")]
    assert document.summary(sections) == "1 red, 1 amber, 1 green. Begin with: Prediction."
    assert document.summary([*sections, make("gradients", "red")]).endswith(
        "Begin with: Gradients."
    )
    assert document.summary(sections[2:]) == "1 green."
    assert document.verdicts(sections)[0] == "RED    Prediction, n: 1"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return recipe.make_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def run(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "run"))


def diagnosed(run, **options):
    options = {"recipe": Path(recipe.__file__), **options}
    return tool.main(tool.Config(run=run, **options))


def test_the_command(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(inputs, "SAMPLES", 1)
    for step in range(24):
        with (run / "episodes.jsonl").open("a") as file:
            file.write(json.dumps({"step": 30 * step, "score": step, "length": 30}) + "\n")
        with (run / "metrics.jsonl").open("a") as file:
            line = {"step": 30 * step, "updates": step, "loss/obs": 2.0, "loss/dyn": 1.0}
            file.write(json.dumps(line | {"value": None if step == 9 else 1.0}) + "\n")
    output = tmp_path / "page.html"
    assert diagnosed(run, steps=84, seed=4321, output=output) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == str(output)
    assert "Begin with: " in lines[-2]
    assert "GREEN  Training curves, score: 3.5 → 19.5 (± 2.4)" in lines
    assert any("value was not finite at step 270 (1 such values)" in line for line in lines)
    text = output.read_text()
    Reader(text)
    assert "<b>690 steps</b>" in text
    assert "<b>4,321</b>" in text
    assert "<b>23</b>" in text


def test_environments_that_fail_too_often_give_no_page(run, monkeypatch):
    monkeypatch.setattr(EnvVector, "stopped", "the wheel came off")
    with pytest.raises(wb.evaluate.Stopped, match=r"^the wheel came off$"):
        diagnosed(run)
    assert not (run / "diagnosis.html").exists()


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ("rm config.json", {"recipe": None}, "run holds no run: there is no config.json in it"),
        ("", {"recipe": None}, "was made by the recipe 'point_recipe', which is not in "),
        ("", {"recipe": Path("nowhere.py")}, "no recipe at nowhere.py: --recipe takes the path of"),
        ("", {"recipe": Path(__file__)}, "test_page.py has no load, environments, act, world_mod"),
    ],
)
def test_a_run_without_its_recipe(run, change, options, message):
    if change:
        (run / change.removeprefix("rm ")).unlink()
    with pytest.raises((OSError, ValueError), match=message):
        diagnosed(run, **options)


def test_a_run_without_a_checkpoint(run):
    (run / "checkpoint/manifest.json").unlink()
    with pytest.raises(FileNotFoundError, match="no checkpoint in "):
        diagnosed(run)


def test_too_few_steps(run):
    with pytest.raises(ValueError, match="a diagnosis takes at least 84 steps, got 83"):
        wb.diagnose.diagnose(run, None, None, None, steps=83)


def test_what_cannot_be_diagnosed_is_refused_before_anything_is_played(tmp_path, monkeypatch):
    agent, played = recipe.new(False), []
    monkeypatch.setattr(recipe, "environments", lambda *given: played.append(given))

    def refused(error, message, **options):
        with pytest.raises(error, match=message):
            diagnose.diagnose(tmp_path, recipe, agent, recipe.CFG, steps=200, **options)

    (tmp_path / "file").touch()
    output = tmp_path / "file" / "page.html"
    refused(
        NotADirectoryError, "is not a folder; give --output, the page, in another", output=output
    )
    monkeypatch.setattr(recipe, "actor_critic_loss", lambda agent, post, cfg: None)
    refused(ValueError, r"calls actor_critic_loss\(agent, post, batch, cfg\), and point_recipe has")
    del agent.cont
    refused(ValueError, "the agent of point_recipe has no cont; the agent of one task has")
    assert not played
