from __future__ import annotations

import csv
import errno
import os
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from engine.figures import export, tabular
from engine.figures.drawing import draw, settings
from engine.figures.export import write_figure
from engine.figures.kinds import KINDS, Axis, Figure, FigureError, Graph, Heatmap, Images, Lines, Scatter, TokenStrip
from engine.figures.palette import palette, rgb
from engine.figures.points import CAMERA
from engine.files import DiskError
from tests.figure_samples import SAMPLES, bare


def read(path: Path) -> tuple[list[str], list[list[str]]]:
    with open(path, encoding="utf-8", newline="") as lines:
        header, *rows = csv.reader(lines)
    return header, rows


def column(rows: list[list[str]], at: int, dtype: Any = np.float64) -> np.ndarray:
    return np.asarray([row[at] for row in rows]).astype(dtype)


def test_samples_cover_every_kind() -> None:
    assert {make().kind for make in SAMPLES.values()} == set(KINDS)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", SAMPLES)
def test_png_has_paper_size_and_theme_canvas(name: str, theme: str, tmp_path: Path) -> None:
    write_figure(SAMPLES[name](), tmp_path / "f.png", theme)
    picture = matplotlib.image.imread(tmp_path / "f.png")
    height, width = picture.shape[:2]
    assert 3 * 300 <= width <= 11 * 300
    assert 1 * 300 <= height <= 10 * 300
    canvas = np.asarray(rgb(palette(theme).canvas)) / 255
    # Corners away from the title are paper: nothing is cut off at the edge and there is no foreign frame.
    for corner in (picture[-1, 0], picture[-1, -1], picture[height // 2, 0]):
        np.testing.assert_allclose(corner[:3], canvas, atol=0.003)
    assert picture[..., :3].std() > 0.01


@pytest.mark.parametrize("name", SAMPLES)
def test_svg_is_the_same_each_time_with_text_as_text_and_no_trace_of_the_machine(name: str, tmp_path: Path) -> None:
    figure = SAMPLES[name]()
    write_figure(figure, tmp_path / "a.svg")
    write_figure(figure, tmp_path / "b.svg")
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    assert f">{figure.title}" in re.sub(r"[“”]", lambda m: m.group(), text)
    assert "dc:date" not in text
    assert str(Path.cwd()) not in text
    assert os.environ.get("HOME", "/root") + "/" not in text
    assert re.search(r"<text ", text)


def test_note_goes_into_the_metadata(tmp_path: Path) -> None:
    figure = SAMPLES["loss"]()
    write_figure(figure, tmp_path / "a.svg")
    assert figure.note in (tmp_path / "a.svg").read_text()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0, 1, 5])
@pytest.mark.parametrize("suffix", ["png", "svg", "csv"])
def test_empty_and_all_missing_figures_are_written(kind: str, size: int, suffix: str, tmp_path: Path) -> None:
    write_figure(bare(kind, size), tmp_path / f"f.{suffix}")
    assert (tmp_path / f"f.{suffix}").stat().st_size > 0


def test_missing_values_are_said_and_never_drawn_as_numbers(tmp_path: Path) -> None:
    figure = Lines(title="t", x_axis=Axis("x"), y_axis=Axis("y", "", "log"), series=("s",), x=np.arange(6.0),
                   y=np.asarray([1, np.nan, 10, -5, 0, np.inf]))  # fmt: skip
    with settings("light"):
        axes = draw(figure, "light", CAMERA).axes[0]
    drawn = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axes.lines])
    assert set(drawn[~np.isnan(drawn)]) == {1.0, 10.0}
    assert axes.get_title(loc="right") == "4 values not finite or not above 0, left out"


def test_missing_cells_are_grey_and_hatched_and_counted() -> None:
    figure = SAMPLES["patching"]()
    with settings("light"):
        axes = draw(figure, "light", CAMERA).axes[0]
    shown = np.asarray(axes.images[0].get_array())
    grey = rgb(palette("light").missing)
    assert tuple(shown[3, 2]) == grey
    assert tuple(shown[5, 5]) == grey
    assert (shown == np.asarray(grey)).all(axis=-1).sum() == 2
    assert [len(bundle.get_paths()) for bundle in axes.collections] == [2]
    assert axes.collections[0].get_hatch()
    assert axes.get_title(loc="right") == "2 cells not finite (grey)"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_diverging_map_is_symmetric_with_zero_in_the_colour_of_the_canvas(theme: str) -> None:
    figure = Heatmap(title="t", x_axis=Axis("x"), y_axis=Axis("y"), value_axis=Axis("v"), diverging=True,
                     values=np.asarray([[0.0, 3.0, -1.0]]), x=np.arange(3), y=np.arange(1))  # fmt: skip
    with settings(theme):
        sheet = draw(figure, theme, CAMERA)
    shown = np.asarray(sheet.axes[0].images[0].get_array())
    assert tuple(shown[0, 0]) == rgb(palette(theme).canvas)
    assert sheet.axes[1].get_ylim() == (-3.0, 3.0)


def test_log_axes_and_references_and_bands_are_drawn() -> None:
    with settings("light"):
        axes = draw(SAMPLES["spectrum"](), "light", CAMERA).axes[0]
        loss = draw(SAMPLES["loss"](), "light", CAMERA).axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert len(axes.collections) == 2  # bands
    assert axes.get_ylabel() == "Share of variance"
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["training", "entropy floor"]
    assert loss.get_ylabel() == "Cross-entropy (nats/token)"


def test_series_beyond_the_fourth_differ_by_more_than_colour() -> None:
    with settings("light"):
        axes = draw(SAMPLES["family"](), "light", CAMERA).axes[0]
    styles = [(line.get_color(), line.get_linestyle()) for line in axes.lines]
    assert len(set(styles)) == len(styles)
    assert {style for _, style in styles[:4]} == {"-"}
    assert "-" not in {style for _, style in styles[4:]}


def test_dollar_signs_are_words_not_formulas(tmp_path: Path) -> None:
    figure = TokenStrip(title="$x_1$ costs $", tokens=np.asarray(["$x", "$", "\\frac"]))
    write_figure(figure, tmp_path / "f.svg")
    assert "$x_1$ costs $" in (tmp_path / "f.svg").read_text()


def test_signs_without_a_font_do_not_fail(tmp_path: Path) -> None:
    tokens = np.asarray(["日本", " 한국", "\U0001f600", "\x00\x1b", "e\u0301", "\ufffd", "𓀀"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_figure(
            TokenStrip(title="t", tokens=tokens, value=np.arange(7.0), value_axis=Axis("v")), tmp_path / "f.png"
        )
    pixels = matplotlib.image.imread(tmp_path / "f.png")
    assert pixels.std() > 0, "the picture is blank"


def test_unknown_extension_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FigureError, match=r"f\.pdf, which has “\.pdf”; end the name in \.png, \.svg or \.csv"):
        write_figure(SAMPLES["loss"](), tmp_path / "f.pdf")
    with pytest.raises(FigureError, match="no extension"):
        write_figure(SAMPLES["loss"](), tmp_path / "figure")
    assert list(tmp_path.glob("*f*")) == []


@pytest.mark.parametrize("suffix", ["png", "svg", "csv"])
def test_full_disk_leaves_the_old_file_alone(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out" / f"f.{suffix}"
    path.parent.mkdir()
    path.write_text("old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("engine.files.os.replace", full)
    with pytest.raises(DiskError, match="is full"):
        write_figure(SAMPLES["loss"](), path)
    assert path.read_text() == "old"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_importing_the_exporter_brings_neither_matplotlib_nor_torch_nor_qt() -> None:
    code = (
        "import sys, engine.figures.export; "
        "print([name for name in ('matplotlib', 'torch', 'PySide6') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_drawing_leaves_no_global_state(tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    write_figure(SAMPLES["loss"](), tmp_path / "f.svg", "dark")
    assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


# ---- CSV: every number reads back


def written(figure: Figure, tmp_path: Path) -> tuple[list[str], list[list[str]]]:
    write_figure(figure, tmp_path / "f.csv")
    return read(tmp_path / "f.csv")


def test_lines_csv_round_trip(tmp_path: Path) -> None:
    figure = SAMPLES["spectrum"]()
    assert isinstance(figure, Lines)
    header, rows = written(figure, tmp_path)
    assert header == ["Series", "Component", "Share of variance", "Share of variance low", "Share of variance high"]
    for index, name in enumerate(figure.series):
        mine = [row for row in rows if row[0] == name]
        for at, array in enumerate((figure.x, figure.y, figure.low, figure.high), start=1):
            assert array is not None
            np.testing.assert_array_equal(column(mine, at), array[index])


def test_lines_csv_leaves_padding_out_but_keeps_missing_values(tmp_path: Path) -> None:
    nan = np.nan
    figure = Lines(title="t", x_axis=Axis("Step"), y_axis=Axis("Loss", "nats"), series=("a", "b"),
                   x=np.asarray([[1, 2, 3, 4], [1, 2, nan, nan]]), y=np.asarray([[5, nan, np.inf, nan], [nan, 6, nan, nan]]),
                   reference={"floor": 0.1})  # fmt: skip
    header, rows = written(figure, tmp_path)
    assert header == ["Series", "Step", "Loss (nats)"]
    assert rows == [["a", "1.0", "5.0"], ["a", "2.0", "nan"], ["a", "3.0", "inf"], ["a", "4.0", "nan"], ["b", "1.0", "nan"],
                    ["b", "2.0", "6.0"], ["floor", "", "0.1"]]  # fmt: skip


def test_scatter_csv_round_trip(tmp_path: Path) -> None:
    figure = SAMPLES["scatter"]()
    assert isinstance(figure, Scatter)
    header, rows = written(figure, tmp_path)
    assert header[:4] == ["Component 1", "Component 2", "Position (tokens)", "Label"]
    assert header[4:6] == ["Component 1 [2]", "Component 2 [2]"]
    np.testing.assert_array_equal(np.stack([column(rows, 0), column(rows, 1)], 1), figure.points)
    np.testing.assert_array_equal(column(rows, 2), figure.value)
    assert [row[3] for row in rows] == figure.label.tolist()
    np.testing.assert_array_equal(np.stack([column(rows, at) for at in range(4, 8)], 1), figure.columns)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", "<i4", "|u1", "<i8"])
def test_heatmap_csv_round_trip_in_every_dtype(dtype: str, tmp_path: Path) -> None:
    values = (np.random.default_rng(0).normal(0, 50, (7, 5)) ** 2).astype(dtype)
    figure = Heatmap(title="t", x_axis=Axis("Token"), y_axis=Axis("Layer"), value_axis=Axis("Norm", "u"), values=values,
                     x=np.asarray(["a", " b", "\n", "c,d", '"']), y=np.arange(7), text=values.astype(str))  # fmt: skip
    header, rows = written(figure, tmp_path)
    assert header == ["Layer", "Token", "Norm (u)", "Text"]
    np.testing.assert_array_equal(column(rows, 2, dtype).reshape(7, 5), values)
    assert [row[1] for row in rows[:5]] == ["a", " b", "\n", "c,d", '"']
    assert [row[3] for row in rows] == figure.text.ravel().tolist()


def test_histogram_csv_round_trip(tmp_path: Path) -> None:
    figure = SAMPLES["counted"]()
    header, rows = written(figure, tmp_path)
    assert header == ["Group", "Norm from", "Norm to", "Tokens"]
    np.testing.assert_array_equal(column(rows, 1), figure.edges[:-1])
    np.testing.assert_array_equal(column(rows, 2), figure.edges[1:])
    np.testing.assert_array_equal(column(rows, 3), figure.counts[0])
    samples = SAMPLES["densities"]()
    header, rows = written(samples, tmp_path)
    assert header == ["Group", "log10 density"]
    assert len(rows) == 15_000
    np.testing.assert_array_equal(column(rows, 1), samples.samples[~np.isnan(samples.samples)])


def test_bars_csv_round_trip(tmp_path: Path) -> None:
    figure = SAMPLES["heads"]()
    header, rows = written(figure, tmp_path)
    assert header == ["Head", "Logit difference (nats)", "Logit difference low (nats)", "Logit difference high (nats)"]
    assert [row[0] for row in rows] == figure.label.tolist()
    for at, array in enumerate((figure.value, figure.low, figure.high), start=1):
        np.testing.assert_array_equal(column(rows, at), array)


def test_table_csv_round_trip(tmp_path: Path) -> None:
    figure = SAMPLES["latents"]()
    header, rows = written(figure, tmp_path)
    assert header == ["Latent", "Density (share)", "Largest activation", "Top token", "Alive"]
    for at, array in enumerate(figure.columns):
        found = [row[at] for row in rows]
        if array.dtype.kind == "b":
            assert found == [str(value) for value in array.tolist()]
        else:
            np.testing.assert_array_equal(np.asarray(found).astype(array.dtype), array)


def test_token_strip_csv_round_trip(tmp_path: Path) -> None:
    figure = SAMPLES["strip"]()
    header, rows = written(figure, tmp_path)
    assert header == ["Position", "Token", "Activation"]
    assert [row[1] for row in rows] == figure.tokens.tolist()
    np.testing.assert_array_equal(column(rows, 2), figure.value)
    assert column(rows, 0, int).tolist() == list(range(96))


def test_graph_csv_round_trip_with_a_node_without_edges(tmp_path: Path) -> None:
    figure = SAMPLES["circuit"]()
    assert isinstance(figure, Graph)
    lonely = replace(figure, nodes=np.append(figure.nodes, "lonely"), position=np.vstack([figure.position, [9, 9]]))
    header, rows = written(lonely, tmp_path)
    assert header == ["From index", "From name", "From x", "From y", "To index", "To name", "To x", "To y",
                      "Direct effect (nats)"]  # fmt: skip
    edges = [row for row in rows if row[4]]
    np.testing.assert_array_equal(np.stack([column(edges, 0, int), column(edges, 4, int)], 1), figure.edges)
    np.testing.assert_array_equal(column(edges, 8), figure.weight)
    np.testing.assert_array_equal(column(edges, 2), figure.position[figure.edges[:, 0], 0])
    assert rows[-1] == ["7", "lonely", "9.0", "9.0", "", "", "", "", ""]


def test_images_csv_round_trip(tmp_path: Path) -> None:
    figure = SAMPLES["attention"]()
    assert isinstance(figure, Images)
    header, rows = written(figure, tmp_path)
    assert header == ["Picture", "Query", "Key", "Attention"]
    np.testing.assert_array_equal(column(rows, 3, np.float32).reshape(figure.pixels.shape), figure.pixels)
    colour = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), dtype=np.uint8)
    painted = Images(title="t", x_axis=Axis(""), y_axis=Axis(""), captions=("a", "b"), pixels=colour)
    header, rows = written(painted, tmp_path)
    assert header == ["Picture", "Row", "Column", "Red", "Green", "Blue"]
    np.testing.assert_array_equal(np.stack([column(rows, at, np.uint8) for at in (3, 4, 5)], 1), colour.reshape(-1, 3))


def test_big_tables_are_written_in_pieces_without_losing_a_row() -> None:
    count = tabular.CHUNK * 2 + 17
    figure = Scatter(title="t", x_axis=Axis("x"), y_axis=Axis("y"), points=np.arange(2.0 * count).reshape(-1, 2))
    rows = list(tabular.table(figure)[1])
    assert len(rows) == count
    assert list(rows[-1]) == [f"{2.0 * count - 2}", f"{2.0 * count - 1}"]


def test_formats_named_by_the_exporter_are_the_ones_it_writes(tmp_path: Path) -> None:
    for suffix in export.FORMATS:
        write_figure(SAMPLES["top_logits"](), tmp_path / f"F.{suffix.upper()}")
        assert (tmp_path / f"F.{suffix.upper()}").exists()
