"""The notebooks run from beginning to end, show what they speak of, and are the same in both of their files."""

import importlib.util
import subprocess
import sys
import tomllib

import jupytext
import nbformat
import pytest
from notebooks_run import NOTEBOOKS, ROOT, execute

# What each shows: views of examples and rows, plots, and something that it prints.
SHOWN = {
    "1_explore_a_dataset": (4, 1, "captions speak of something red"),
    "2_hub_rows_to_arrayrecord": (1, 0, "5 findings"),
    "3_what_packing_does": (1, 4, "scores of the kept example moved by"),
    "4_your_own_dataset": (5, 2, "{'eaten': "),
    "5_train_a_tiny_vlm_on_a_mesh": (2, 2, "loss "),
}
EXTRA = "notebooks"


def test_the_notebooks_are_those_that_are_described_here():
    assert [path.stem for path in NOTEBOOKS] == list(SHOWN)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_to_its_end_in_a_folder_of_its_own(path, tmp_path, record_property):
    executed = execute(path, tmp_path)
    record_property("notebook", f"{path.stem} {executed.seconds:.1f} s")
    num_views, num_plots, words = SHOWN[path.stem]
    views = [html for html in executed.outputs("text/html") if "gm-card" in html]
    assert (len(views), len(list(executed.outputs("image/png")))) == (num_views, num_plots)
    assert words in executed.text
    assert "Traceback" not in executed.text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_two_files_of_a_notebook_say_the_same(path):
    notebook, text = nbformat.read(path, as_version=4), jupytext.read(path.with_suffix(".py"))
    cells, same = ([(cell.cell_type, cell.source) for cell in one.cells] for one in (notebook, text))
    assert cells == same, f"jupytext --sync {path.with_suffix('.py')}"
    code = code_of(notebook)
    assert not any(cell.outputs or cell.execution_count for cell in code), "outputs are not kept"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_first_cell_installs_where_the_library_is_not_there_and_only_there(path, monkeypatch):
    first, installed = code_of(nbformat.read(path, as_version=4))[0].source, []
    monkeypatch.setattr(subprocess, "check_call", installed.append)
    exec(first, {})
    assert not installed
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    exec(first, {})
    assert installed == [[sys.executable, "-m", "pip", "install", "-q", f"grain-molmo[{EXTRA}]"]]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert EXTRA in project["optional-dependencies"]


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]
