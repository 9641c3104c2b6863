"""What `Dataset.show` and `Loader.show_row` return: a view in a notebook, lines on a terminal, a page in a file."""

import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from grain_molmo.store.files import write_text
from grain_molmo.view.html import fragment_page, notebook_html, render_example, render_row
from grain_molmo.view.lines import example_lines, row_lines
from grain_molmo.view.media import InlineMedia
from grain_molmo.view.model import ExampleCard, RowCard


@dataclass(frozen=True, eq=False, repr=False)
class Shown:
    """An example or a packed row to look at; the last expression of a notebook's cell shows it.

    Attributes:
        card: what is shown, as data.
    """

    card: ExampleCard | RowCard

    def html(self, anchor: str = "") -> str:
        """The view as a fragment of HTML with its pictures inside; media are decoded now.

        Args:
            anchor: the id of a row's view in its document; default one of its stage, step and number.
        """
        media = InlineMedia()
        card = self.card
        return render_row(card, media, anchor) if isinstance(card, RowCard) else render_example(card, media)

    def _repr_html_(self) -> str:
        # A notebook may show a row twice, and the links of each lead to its own examples.
        return notebook_html(self.html(anchor=f"gm-{uuid.uuid4().hex[:12]}"))

    def __repr__(self) -> str:
        card = self.card
        return "\n".join(row_lines(card) if isinstance(card, RowCard) else example_lines(card))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the view as one HTML file that needs nothing else; the path. Raises StoreError."""
        path = Path(path)
        write_text(path, fragment_page(self.html(), self._title()))
        return path

    def _title(self) -> str:
        card = self.card
        if isinstance(card, RowCard):
            return f"{card.stage}, step {card.step}, row {card.row}"
        return f"{card.dataset} {card.id}"
