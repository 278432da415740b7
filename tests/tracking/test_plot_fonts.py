import warnings
from pathlib import Path

import matplotlib
import pytest

from thawlab.tracking import plot_fonts
from thawlab.tracking.plot_fonts import lacking, literal
from thawlab.tracking.plots import new_figure, save_figure

# U+E000 belongs to nobody, so that no font has it unless one was made for it.
NOBODY = "\ue000"


@pytest.fixture
def no_other_fonts(monkeypatch):
    """A machine with matplotlib's fonts alone."""
    monkeypatch.setattr(plot_fonts, "_installed", lambda: ())
    plot_fonts._families.cache_clear()
    yield
    plot_fonts._families.cache_clear()


def test_dollars_are_dollars_and_no_formula_begins():
    assert literal("$x_{1}$ costs 5 $") == r"\$x_{1}\$ costs 5 \$"
    assert literal(r"C:\alpha_{}") == r"C:\alpha_{}"


@pytest.mark.parametrize("text", ["$a$", r"$\frac{1$", "_{}", "\\", "$", r"\$", "100 % & #"])
def test_text_is_drawn_as_it_stands(tmp_path: Path, text):
    figure = new_figure(1, 1)
    drawn = figure.text(0, 0, literal(text))
    save_figure(figure, tmp_path / "picture.png")
    assert drawn._preprocess_math(drawn.get_text()) == (text, False)


def test_letters_that_no_font_here_has_are_written_as_codes_and_told(no_other_fonts):
    assert literal(f"leaf {NOBODY}") == r"leaf \ue000"
    assert literal("葉") == r"\u8449"
    assert lacking(["leaf", "葉", "木", "草", "花"]).startswith(
        "no font of this machine has the letters of 葉, 木, 草 and 1 "
    )
    assert lacking(["leaf", "Blätter", "лист", "φύλλο"]) == ""


def test_a_picture_of_names_that_no_font_here_has_warns_of_no_missing_glyph(tmp_path: Path, no_other_fonts):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with plot_fonts.lettering([NOBODY, "葉"]):
            figure = new_figure(1, 1)
            figure.text(0, 0, literal(f"{NOBODY} 葉"))
            save_figure(figure, tmp_path / "picture.png")


def test_fonts_of_this_machine_are_asked_for_what_the_first_one_lacks(monkeypatch):
    other = next(each.fname for each in matplotlib.font_manager.fontManager.ttflist if "STIXGeneral" in each.name)
    monkeypatch.setattr(plot_fonts, "_installed", lambda: (("Damaged", __file__), ("Other", other)))
    monkeypatch.setattr(plot_fonts, "_has", lambda path, sign: path == other and sign == NOBODY)
    plot_fonts._families.cache_clear()
    with plot_fonts.lettering([NOBODY]):
        assert matplotlib.rcParams["font.family"] == ["DejaVu Sans", "Other"]
    assert literal(NOBODY) == NOBODY
    plot_fonts._families.cache_clear()
