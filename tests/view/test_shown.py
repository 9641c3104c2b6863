"""What `show` returns: a view that a notebook draws, a terminal prints, and a file keeps."""

import re

import numpy as np
import pytest

import grain_molmo as gm
from grain_molmo.errors import ConfigError, StoreError

pytestmark = pytest.mark.xdist_group("loader")


@pytest.fixture
def points(sample_dir):
    return gm.PixMoPoints(data_dir=sample_dir)


def test_an_example_is_drawn_in_a_notebook_with_its_picture_inside(points):
    html = points.show(0)._repr_html_()

    assert re.findall(r'<img[^>]*src="([^"]{11})', html) == ["data:image/"]
    assert "<script" not in html
    assert not re.search(r'(?:src|href)="(?!data:|#)', html)


def test_a_view_is_printed_as_text_with_what_is_learned_marked(points):
    text = repr(points.show(1))

    assert text.startswith("pixmo_points example 1, id ")
    assert re.search(r"^  picture  \d+x\d+ pixels, \d+ points?$", text, re.MULTILINE)
    learned = [line for line in text.splitlines() if line.startswith("  > ")]
    assert learned
    assert all("<points coords=" in line and "weight 0." in line for line in learned)
    assert points.show(-1).card.index == len(points) - 1


def test_a_page_is_saved_whole_or_not_at_all(points, tmp_path):
    path = points.show(0).save(tmp_path / "example.html")

    page = path.read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")
    with pytest.raises(StoreError, match=r"example\.html"):
        points.show(0).save(path / "inside.html")
    assert [one.name for one in tmp_path.iterdir()] == ["example.html"]


def test_the_stage_and_the_tokenizer_decide_what_a_view_shows(points):
    plain = gm.Stage(mixture={"x": 1}, seq_len=4096, point_format="plain", max_crops=4)
    assert "Point: x=" in repr(points.show(1, stage=plain))
    crops = [points.show(1, stage=stage).card.facts["crops"] for stage in ("sft", plain)]
    assert int(crops[0]) >= int(crops[1])
    with pytest.raises(ConfigError, match="unknown stage"):
        points.show(0, stage="sftt")
    with pytest.raises(IndexError):
        points.show(len(points))


def test_a_row_of_features_is_refused_with_what_to_do():
    class Features(gm.Dataset):
        def __len__(self):
            return 4

        def get(self, item, rng):
            return {"features": np.zeros(3, np.float32), "label": 0}

    stage = gm.Stage(kind="features", mixture={"mine": 1}, batch_size=2)
    with (
        gm.make_loader(stage, datasets={"mine": Features()}) as loader,
        pytest.raises(ConfigError, match="features, not tokens"),
    ):
        loader.show_row()
    assert Features().show(0).card.fields == {"features": [0.0, 0.0, 0.0], "label": 0}


def test_a_row_shown_twice_in_a_notebook_links_to_its_own_examples_each_time(open_loader):
    shown = open_loader().show_row(0)

    anchors = [set(re.findall(r' id="([^"]+)"', html)) for html in (shown._repr_html_(), shown._repr_html_())]
    links = [set(re.findall(r' href="#([^"]+)"', html)) for html in (shown._repr_html_(),)]

    assert not anchors[0] & anchors[1]
    assert links[0]
    assert not links[0] & (anchors[0] | anchors[1])
    html = shown._repr_html_()
    assert set(re.findall(r' href="#([^"]+)"', html)) < set(re.findall(r' id="([^"]+)"', html))
