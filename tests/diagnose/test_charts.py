"""Charts and images of the page."""

import io

import numpy as np
import pytest

from worldblocks.diagnose.page.charts import Chart, histogram
from worldblocks.diagnose.page.images import png


def test_charts():
    chart = Chart([0, 10], [1e-3, 12.0], ("x", "y"), log=True)
    chart.line([0, 5, 10], [1.0, float("nan"), 0.0], 1, "a<b")
    text = chart.html("<title>")
    assert "&lt;title&gt;" in text
    assert text.count(",") >= 1
    assert "a&lt;b" in text
    assert "nan" not in text
    flat = Chart([3.0], [7.0], ("", ""))
    flat.mark(7.0, "here")
    flat.dots([3.0], [7.0], 0)
    assert "nan" not in flat.html("flat")
    bars = histogram([0.0, 0.0, 1.0, float(4)], 4, ("", "")).html("h")
    assert bars.count("<rect") == 4


def test_other_programs_read_the_png():
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 255, (5, 7, 4), np.uint8)
    assert np.array_equal(np.array(image.open(io.BytesIO(png(pixels)))), pixels)
