import io
import subprocess
import sys

import matplotlib
import pytest
from PIL import Image

import grain_molmo as gm
from grain_molmo.errors import ConfigError
from grain_molmo.view import plots
from grain_molmo.view.measures import one_a_row

pytestmark = pytest.mark.xdist_group("loader")  # they share the sample


@pytest.fixture(scope="module")
def seen(sample_dir):
    """A loader that handed out a few batches, their history and their rows."""
    history, rows = plots.History(), []
    settings = {"tokenizer": "bytes", "batch_size": 2, "seq_len": 6144, "num_threads": 2}
    with gm.make_loader("pretraining", data_dir=sample_dir, metrics=history, **settings) as loader:
        for _ in range(4):
            next(loader)
            rows += loader.batch_info.rows
        yield loader, history, rows


def texts(figure):
    return [text for axes in figure.axes for text in (axes.get_title(loc=at) for at in ("left", "right")) if text]


def bars(axes):
    return [patch.get_width() for patch in axes.patches]


def test_a_plot_is_a_picture_in_any_notebook_and_in_our_own_style(seen):
    with matplotlib.rc_context({"axes.facecolor": "black", "figure.facecolor": "black"}):
        figure = plots.fill_over_time(seen[1])
        data, size = figure._repr_png_()
        assert matplotlib.rcParams["axes.facecolor"] == "black"  # the caller's style is as it was
    image = Image.open(io.BytesIO(data)).convert("L")
    assert image.size == (2 * size["width"], 2 * size["height"])
    assert image.getpixel((0, 0)) > 240


def test_nothing_is_registered_to_be_shown_behind_ones_back(seen):
    from matplotlib import pyplot

    plots.mixture_shares(seen[0])
    assert pyplot.get_fignums() == []


def test_lengths_have_a_line_for_each_set(sample_dir):
    names = ["pixmo_cap", "pixmo_docs"]
    figure = plots.length_histogram(names, "pretraining", data_dir=sample_dir, num_examples=5)
    assert len(figure.axes) == 4
    assert [text.split()[0] for text in texts(figure) if "examples" in text] == names
    assert all(sum(patch.get_height() for patch in axes.patches) == 5 for axes in figure.axes)


def test_lengths_of_a_set_without_a_usable_example_are_an_empty_plot():
    class Nothing(gm.Dataset):
        def __len__(self):
            return 3

        def get(self, item, rng):
            return {"messages": ["What?", ""]}

    figure = plots.length_histogram(Nothing(), "pretraining")
    assert "3 cannot be used" in texts(figure)[0]
    assert figure._repr_png_()[0]


def test_shares_are_bars_as_long_as_they_are(seen):
    loader = seen[0]
    (axes,) = plots.mixture_shares(loader).axes
    stats = loader.stats()
    order = [label.get_text() for label in axes.get_yticklabels()]
    assert order[0] == "pixmo_cap"
    assert set(order) == set(loader.weights)
    expected = [stats["datasets"].get(name, {}).get("examples", 0) / stats["examples"] for name in order]
    assert bars(axes)[: len(order)] == pytest.approx(expected)


def test_fill_is_drawn_batch_by_batch(seen):
    (axes,) = plots.fill_over_time(seen[1]).axes
    line = axes.get_lines()[0]
    assert line.get_xdata().tolist() == [0, 1, 2, 3]
    assert line.get_ydata().tolist() == seen[1].token_fill.tolist()


def test_throughput_says_what_sets_the_pace_of_a_loader_its_stats_and_its_history(seen):
    loader, history, _ = seen
    for source in (loader, loader.stats(), history):
        (axes,) = plots.throughput(source).axes
        assert "rows a second were handed out" in axes.get_title(loc="left")
        assert sum("sets the pace" in text.get_text() for text in axes.texts) == 1


def test_throughput_of_too_few_batches_is_refused():
    with pytest.raises(ConfigError, match="too few batches"):
        plots.throughput(plots.History())


def test_padding_and_packing_draw_the_same_tokens(seen):
    loader, _, rows = seen
    figure = plots.padding_and_packing(rows, loader.stage)
    padded, packed = figure.axes
    assert padded.get_title(loc="left").startswith(f"One example a row, padded: {len(one_a_row(rows))} rows")
    assert packed.get_title(loc="left").startswith(f"Packed: {len(rows)} rows")
    assert drawn(padded) == drawn(packed) == sum(e.tokens[1] - e.tokens[0] for row in rows for e in row)


def drawn(axes):
    """Tokens of examples that are drawn: every other collection is padding."""
    paths = [path for collection in axes.collections[::2] for path in collection.get_paths()]
    return sum(path.get_extents().width for path in paths)


def test_rows_without_examples_are_refused():
    with pytest.raises(ConfigError, match="no row has an example"):
        plots.padding_and_packing([[]], gm.Stage(mixture={"a": 1}))


def test_without_matplotlib_the_error_says_what_to_install():
    code = "import sys; sys.modules['matplotlib'] = None\nimport grain_molmo.view.plots"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "ConfigError: grain_molmo.view.plots needs matplotlib: pip install 'grain-molmo[plots]'" in result.stderr
