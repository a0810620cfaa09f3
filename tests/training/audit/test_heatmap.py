from __future__ import annotations

import pytest

from mtltrack.training.audit.heatmap import heatmap_figure, short_number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (25.0, "25"),
        (0.57, "0.57"),
        (0.0025, "2.5e-3"),
        (5.0, "5.0"),
        (0.999, "1.0"),
        (99.7, "1.0e2"),
        (1234.0, "1.2e3"),
    ],
)
def test_cells_have_two_digits(value: float, text: str) -> None:
    assert short_number(value) == text


def test_nearly_equal_norms_look_alike_and_the_title_fits() -> None:
    title = "hiptrack hiptrack_cls, stage heads: gradient norms"
    norms = {("cls/cls", "cls.out"): 0.1, ("cls", "cls.out"): 0.1}
    figure = heatmap_figure(norms, ["cls/cls", "cls"], ["cls.out"], title)
    assert figure.axes[0].images[0].get_clim() == pytest.approx((-2.0, 0.0))
    figure.canvas.draw()
    place = figure._suptitle.get_window_extent()
    assert 0 <= place.x0 and place.x1 <= figure.bbox.width
    assert "the weighted sum of its terms" in figure._supxlabel.get_text()


def test_without_terms_nothing_is_said_of_them() -> None:
    figure = heatmap_figure({("cls", "a"): 1e-3, ("box", "a"): 1e3}, ["cls", "box"], ["a"], "step 5")
    assert figure._supxlabel is None
    assert figure.axes[0].images[0].get_clim() == pytest.approx((-3.0, 3.0))
