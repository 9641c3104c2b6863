"""How the documentation is built: `sphinx-build -W docs build/docs`; pages in Markdown, names from docstrings."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]

os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))  # of notebooks

from grain_molmo import __version__  # noqa: E402

project = "grain_molmo"
release = version = __version__
copyright = "the grain_molmo authors"

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "myst_nb",
    "command_line",
    "names",
    "notebooks",
]
exclude_patterns = ["_ext"]
default_role = "py:obj"  # names in docstrings are links where they are documented, see `_ext/names.py`

nitpick_ignore = [  # made and taken by the library alone
    ("py:class", "grain_molmo.batches.Work"),
    ("py:class", "Work"),
    ("py:class", "grain_molmo.store.records.VideoFacts"),
]

myst_enable_extensions = ["colon_fence", "deflist", "attrs_block"]
myst_heading_anchors = 3
suppress_warnings = ["config.cache"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Attributes", "params_style")]
napoleon_use_rtype = False

# Notebooks are kept without their outputs; the published site runs them, a quick look need not.
nb_execution_mode = "cache"
nb_execution_in_temp = True
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True

html_theme = "furo"
html_title = f"grain_molmo {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_search_summary = False  # it fetches pages, which a site opened from a file cannot
