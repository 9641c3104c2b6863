"""Names in docstrings become links to where they are documented, and plain text where they are not.

Docstrings say `Stage` or `Loader.filter`, and types are `grain_molmo.stages.Stage`, though users import it from
`grain_molmo`. A name that ends one documented name is that one. What is left of types must be another library's.
"""

import re
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.domains.python import PythonDomain
from sphinx.environment import BuildEnvironment
from sphinx.util.typing import stringify_annotation

OURS = ("grain_molmo.", "tpu_configs.", "converters.")


def find_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contents: nodes.TextElement
) -> nodes.Element | None:
    """A link for a name that is documented under another module; for words in backticks that are no name, the words."""
    if node.get("refdomain") != "py":
        return None
    domain = env.domains["py"]
    assert isinstance(domain, PythonDomain)
    target = node["reftarget"]
    short = target.rpartition(".")[2] if target.startswith(OURS) else target
    found = [each for each in domain.find_obj(env, None, None, short, None, 1) if not each[1].aliased]
    if len(found) == 1:
        name, entry = found[0]
        return make_link(app, node["refdoc"], entry.docname, entry.node_id, name, contents)
    is_prose = node["reftype"] == "obj" or not target.startswith(OURS)
    return contents if is_prose or short.startswith("_") else None


def make_link(app: Sphinx, page: str, docname: str, node_id: str, name: str, contents: Any) -> nodes.Element:
    """A reference to the place on a page."""
    uri = app.builder.get_relative_uri(page, docname)
    return nodes.reference("", "", contents, refuri=f"{uri}#{node_id}", internal=True, reftitle=name)


def show_public_bases(app: Sphinx, name: str, obj: type, options: Any, bases: list[type]) -> None:
    """Instead of a base that is our own affair, its own base that is not."""
    for place, base in enumerate(bases):
        if isinstance(base, type):
            bases[place] = next(each for each in base.__mro__ if not each.__name__.startswith("_"))


def mark_code(app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:
    """Indented lines after a colon and an empty line are code; in a docstring that is plain without a mark."""
    for number in range(len(lines) - 2):
        if lines[number].endswith(":") and not lines[number + 1] and lines[number + 2].startswith("    "):
            lines[number] += ":"


def keep_colons(app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:
    """The first line of a property is a sentence; napoleon takes what is before its colon for a type."""
    if what in ("property", "attribute", "data"):
        lines.insert(0, "")


def say_types(app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:
    """The entries of a class's "Attributes" get the types that it declares, as parameters have them."""
    if what not in ("class", "exception") or "Attributes:" not in lines:
        return
    types = getattr(obj, "__annotations__", {})
    for number in range(lines.index("Attributes:") + 1, len(lines)):
        if lines[number] and not lines[number].startswith(" "):  # the next section
            return
        entry = re.match(r"    (\w+)(?:, \w+)*(?=: )", lines[number])
        if entry and entry[1] in types:
            declared = types[entry[1]]
            text = declared if isinstance(declared, str) else stringify_annotation(declared, "smart")
            short = re.sub(r"~?\b(?:\w+\.)+(?=\w)", "", text)
            lines[number] = f"{entry[0]} ({short}){lines[number][entry.end() :]}"


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers with Sphinx."""
    app.connect("missing-reference", find_name)
    app.connect("autodoc-process-bases", show_public_bases)
    for process in (mark_code, say_types, keep_colons):
        app.connect("autodoc-process-docstring", process, priority=100)  # before napoleon's sections
    return {"parallel_read_safe": True, "parallel_write_safe": True}
