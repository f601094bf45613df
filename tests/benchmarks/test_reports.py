"""What all reports do: options, figures, pages."""

import pytest
from benchmarks.command import main
from benchmarks.commands import fit
from benchmarks.commands.report import Report, Section
from benchmarks.commands.reports import FIT, FLOOR, SCALING
from benchmarks.tables import Table

from benchmarks import measure, record

REPORTS = {report.name: report for report in (SCALING, FLOOR, FIT)}


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_the_committed_page_is_that_of_the_committed_figures(report):
    """After a measurement, `python -m benchmarks NAME --page` makes it so."""
    out = report.out
    assert out.name == f"{report.name}.json"
    if not (out.exists() or report.page.exists()):
        pytest.skip("nothing is committed yet")
    assert report.page.read_text(encoding="utf-8") == report.render(record.read(out))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["scaling", "--only", "batch,depth"], "--only names depth; only may name batch, length,"),
        (["scaling", "--size", "huge"], "--size names huge; size may name size1m, size12m, size2"),
        (["scaling", "--length", "1"], "--length must be at least 2, got 1"),
        (["floor", "--device", "tpu"], "--device names tpu; device may name cpu, cuda"),
        (["floor", "--horizon", "0"], "--horizon must be at least 1, got 0"),
        (["fit", "--sizes", "size9m"], "--sizes names size9m; sizes may name size1m, size12m"),
        (["fit", "--threads", "0"], "--threads must be at least 1, got 0"),
        (["fit", "--env", "X"], "--env takes KEY=VALUE, got 'X'"),
        (["compare", "HEAD", "--only", "import"], "--only names import; only may name update, r"),
        (["compare", "HEAD", "--tolerance", "0.5"], "--tolerance must be at least 1.0, got 0.5"),
        (["compare", "HEAD", "--size", "huge"], "--size huge is unknown; sizes are size1m, size1"),
        (
            ["floor", "--page", "--out", "none.json"],
            "there are no figures at none.json; `python -m benchmarks floor --out none.json` makes",
        ),
    ],
)
def test_what_is_wrong_with_the_options_is_one_sentence(words, sentence, capsys):
    assert main(words) == 2
    assert capsys.readouterr().err.startswith(f"benchmarks: {sentence}")


def test_figures_then_their_page(tmp_path, monkeypatch, capsys):
    def figures(options, skipped):
        skipped["one"] = "not installed for /usr/some/python"
        return {"a": {"group": "g", "ours": 5.0}}

    def sections(data):
        return [Section("Part", "Words.", [Table("try", "the table", ["x"], [["5"]])])]

    known = {"name": "try", "title": "A try", "about": "About.\n\nMore.", "options": fit.Fit}
    report = Report(**known, figures=figures, sections=sections)
    monkeypatch.setattr(measure, "git", lambda *words, root: "")
    out, page = tmp_path / "figures.json", tmp_path / "docs" / "page.md"
    monkeypatch.setattr(Report, "page", page)
    assert report(["--out", str(out), "--env", "A=1"]) == 0
    assert "try: the table\nx\n5\n" in capsys.readouterr().out
    data = record.read(out)
    assert data["_meta"]["command"].startswith("python -m benchmarks try --out figures.json")
    assert data["_meta"]["skipped"] == {"one": "not installed for python"}
    assert report(["--out", str(out), "--page"]) == 0
    text = page.read_text(encoding="utf-8")
    assert text == report.render(data)
    assert text.startswith("# A try\n\n*This page is generated from `benchmarks/try.json`")
    assert "## Part\n\nWords.\n\n**The table**\n\n| x |\n| --- |\n| 5 |\n" in text


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_a_page_is_of_a_commit_unless_one_says_otherwise(
    report, tmp_path, monkeypatch, meta, capsys
):
    monkeypatch.setattr(Report, "page", tmp_path / "page.md")
    monkeypatch.setattr(Report, "render", lambda self, data: "the page")
    out = tmp_path / "figures.json"
    record.write(out, {"_meta": {**meta, "changed": True}})
    assert main([report.name, "--page", "--out", str(out)]) == 2
    assert capsys.readouterr().err == (
        "benchmarks: figures.json was measured at abc with changes, which nobody else can look "
        "up; commit and measure again, or make the page with --allow-dirty\n"
    )
    assert not (tmp_path / "page.md").exists()
    assert main([report.name, "--page", "--allow-dirty", "--out", str(out)]) == 0
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == "the page"


def test_what_would_be_measured(capsys):
    assert main(["scaling", "--list", "--only", "batch,size,envs"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "batch: 1, 2, 4, 8, 16; around size1m, 4 × 32, horizon 15; 5 rounds",
        "size: size1m, size12m, size25m, size50m, size100m, size200m; around size1m, 1 × 16, "
        "horizon 15; 3 rounds; all are counted, those that fit memory and --longest timed",
        "envs: 1, 4, 16, without and with workers; 5 rounds",
    ]
    assert main(["scaling", "--list", "--quick", "--only", "length"]) == 0
    assert main(["fit", "--list", "--quick", "--sizes", "size1m"]) == 0
    assert main(["floor", "--list", "--size", "size12m"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "length: 16, 32; around size1m, 4 × 32, horizon 15; 2 rounds",
        "counted on the meta device: size1m; 5 cases each",
        "measured: size1m, 4 × 32",
        "size12m, 4 × 32, horizon 15; 5 rounds",
    ]
