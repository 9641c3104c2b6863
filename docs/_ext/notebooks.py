"""The notebooks of the checkout as pages: they lie outside of `docs/`, and say nothing of how they are coloured."""

import json
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

LANGUAGE = {"name": "python", "pygments_lexer": "ipython3"}  # which knows "!command"


def bring_notebooks(app: Sphinx) -> None:
    """Copies `notebooks/*.ipynb` into the site's source; what is there and the same stays untouched."""
    folder = Path(app.srcdir) / "notebooks"
    folder.mkdir(exist_ok=True)
    sources = {path.name: path for path in (Path(app.srcdir).parent / "notebooks").glob("*.ipynb")}
    for path in folder.glob("*.ipynb"):
        if path.name not in sources:
            path.unlink()
    for name, source in sources.items():
        notebook = json.loads(source.read_text(encoding="utf-8"))
        notebook["metadata"]["language_info"] = LANGUAGE
        text, copy = json.dumps(notebook), folder / name
        if not copy.exists() or copy.read_text(encoding="utf-8") != text:
            copy.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers with Sphinx."""
    app.connect("builder-inited", bring_notebooks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
