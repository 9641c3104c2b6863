"""Cards as lines of plain text, for a terminal."""

from collections.abc import Iterator, Sequence

from grain_molmo.readable import printable
from grain_molmo.view.model import ExampleCard, Film, Mark, Picture, RowCard, Span

_MOST_CONVERSATIONS = 4
_MOST_EXAMPLES = 12


def example_lines(card: ExampleCard) -> Iterator[str]:
    """What there is to say of an example: facts, media, and its conversations, `>` before what is learned."""
    yield f"{printable(card.dataset)} example {card.index}, id {printable(card.id)}"
    if card.problem:
        yield f"  problem  {printable(card.problem)}"
    for name, value in card.facts.items():
        yield f"  {name}  {printable(value)}"
    for picture in card.pictures:
        yield f"  {_picture_text(picture)}"
    if card.film:
        yield f"  {_film_text(card.film)}"
    if card.shared:
        yield f"  all branches see  {_text(card.shared)}"
    for conversation in card.conversations[:_MOST_CONVERSATIONS]:
        yield "  -"
        for span in conversation.spans:
            mark = ">" if span.kind == "trained" else " "
            weight = f"   (weight {span.weight:.3g} a token)" if span.kind == "trained" else ""
            yield f"  {mark} {_text([span])}{weight}"
    if (more := len(card.conversations) - _MOST_CONVERSATIONS) > 0:
        yield f"  … {more} more conversations"


def row_lines(card: RowCard) -> Iterator[str]:
    """What there is to say of a packed row: how full it is, and where its examples lie."""
    yield f"stage {printable(card.stage)}, step {card.step}, row {card.row}"
    used = (("tokens", card.n_tokens, card.max_tokens), ("crops", card.n_crops, card.max_crops))
    for name, number, most in (*used, ("pooled", card.n_pooled, card.max_pooled)):
        share = f" ({number / most:.1%})" if most else ""
        yield f"  {name:<7}{number:>8,} of {most:,}{share}"
    for example in card.examples[:_MOST_EXAMPLES]:
        where = "{:>7,} to {:>7,}".format(*example.place.tokens) if example.place else ""
        problem = f"   {printable(example.problem)}" if example.problem else ""
        branches = len(example.conversations)
        several = f", {branches} branches" if branches > 1 else ""
        yield f"  {where}  {printable(example.dataset)}, id {printable(example.id)}{several}{problem}"
    if (more := len(card.examples) - _MOST_EXAMPLES) > 0:
        yield f"  … {more} more examples"


def _picture_text(picture: Picture) -> str:
    return f"{picture.title}  {picture.width}x{picture.height} pixels{_marks_text(picture.marks)}"


def _film_text(film: Film) -> str:
    marks = [mark for still in film.stills for mark in still.marks]
    number = len(film.tracks)
    tracks = f", {number} {'track' if number == 1 else 'tracks'}" if number else ""
    size = f"{film.width}x{film.height} pixels, {film.duration_s:.1f} s, {film.num_frames} frames"
    return f"{film.title}  {size}{tracks}{_marks_text(marks)}"


def _marks_text(marks: Sequence[Mark]) -> str:
    if not marks:
        return ""
    kinds = {kind: sum(mark.kind == kind for mark in marks) for kind in ("point", "box")}
    nouns = {"point": ("point", "points"), "box": ("box", "boxes")}
    return "".join(f", {number} {nouns[kind][number != 1]}" for kind, number in kinds.items() if number)


def _text(spans: Sequence[Span]) -> str:
    return printable("".join(_visual_text(span) if span.kind == "visual" else span.text for span in spans))


def _visual_text(span: Span) -> str:
    between = f", {span.n_between:,} of text between" if span.n_between else ""
    return f"[{span.n_tokens - span.n_between:,} visual tokens{between}]"
