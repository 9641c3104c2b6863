"""A picture of what the model sees in one packed row: its budgets, its examples, their crops, points and text."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from grain_molmo.render import ExampleInfo
from grain_molmo.text.points import ParsedPoint
from grain_molmo.text.tokenizer import Tokenizer
from grain_molmo.view.model import Span
from grain_molmo.view.row_view import Branch, ExampleView, Row, RowView, describe_row, join_frames
from grain_molmo.view.text_layout import (
    Colour,
    Line,
    Piece,
    cut,
    draw_lines,
    draw_text,
    lay_out,
    share_lines,
    width_of,
)
from grain_molmo.view.view_picture import (
    CARD,
    DETAIL,
    GAP,
    PROMPT,
    RULE,
    SMALL,
    WHOLE,
    branch_colour,
    draw_film,
    draw_view,
)

WIDTH, MARGIN = 1600, 32
INNER = WIDTH - 2 * MARGIN

BACKGROUND, INK, FAINT = (246, 247, 249), (28, 34, 43), (150, 157, 168)
TRAINED, ALARM = (0, 122, 78), (192, 40, 40)
EXAMPLE_COLOURS: tuple[Colour, ...] = (
    *((66, 112, 196), (222, 132, 44), (128, 96, 180), (40, 150, 160)),
    *((196, 76, 110), (140, 120, 70), (86, 140, 66), (90, 100, 120)),
)

TITLE, HEADING, BODY = 26, 19, 17
_LINE, _HEADING_LINE = 23, 34
_TEXT_LEFT = GAP + WHOLE[0] + GAP + DETAIL[0] + 2 * GAP
_TEXT_WIDTH = INNER - _TEXT_LEFT - GAP
_CHIP = 26
_MOST_LINES, _MOST_EXAMPLES, _MOST_BRANCHES = 13, 16, 12


def row_picture(row: Row, examples: Sequence[ExampleInfo], tokenizer: Tokenizer, title: str = "") -> Image.Image:
    """A picture, 1600 pixels wide, of the row; see `describe_row` for the arguments."""
    return draw_row(describe_row(row, examples, tokenizer), title)


def draw_row(view: RowView, title: str = "") -> Image.Image:
    """The picture of a described row: budgets above, a card for each example below."""
    shown = view.examples[:_MOST_EXAMPLES]
    parts = [_draw_header(view, title), draw_token_bar(view), draw_crop_bar(view), _draw_legend()]
    parts += [_draw_card(example) for example in shown]
    if left_out := len(view.examples) - len(shown):
        parts.append(_draw_note(f"{left_out} more examples are not shown."))
    return _stack(parts)


def _stack(parts: Sequence[Image.Image]) -> Image.Image:
    """The parts below each other, with margins."""
    height = 2 * MARGIN + sum(part.height for part in parts) + GAP * (len(parts) - 1)
    image = Image.new("RGB", (WIDTH, height), BACKGROUND)
    top = MARGIN
    for part in parts:
        image.paste(part, (MARGIN, top))
        top += part.height + GAP
    return image


def _canvas(height: int, colour: Colour = BACKGROUND) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (INNER, height), colour)
    return image, ImageDraw.Draw(image)


def _draw_header(view: RowView, title: str) -> Image.Image:
    image, draw = _canvas(66)
    draw_text(draw, (0, 0), title or "One packed row, as the model sees it", TITLE, INK)
    facts = (
        f"{len(view.examples)} examples    "
        f"{view.n_tokens:,} of {view.max_tokens:,} tokens ({view.n_tokens / view.max_tokens:.1%})    "
        f"{view.n_crops} of {view.max_crops} crops ({view.n_crops / view.max_crops:.1%})"
    )
    draw_text(draw, (0, 38), facts, HEADING, PROMPT)
    return image


def _draw_note(text: str) -> Image.Image:
    image, draw = _canvas(_LINE)
    draw_text(draw, (0, 0), text, BODY, PROMPT)
    return image


# ---- the bars ----


@dataclass(frozen=True)
class Segment:
    """A part of the token bar.

    Attributes:
        start, stop: in tokens.
        kind: "visual", "shared" (what all branches see), "branch" or "padding".
        example: number of the example in the row, from 0; -1 for padding.
        branch: number of the branch; -1 if it is none.
    """

    start: int
    stop: int
    kind: str
    example: int = -1
    branch: int = -1


def token_segments(view: RowView) -> list[Segment]:
    """The row from its first to its last token; visual tokens lie over the branch or shared part that has them."""
    segments: list[Segment] = []
    for number, example in enumerate(view.examples):
        segments.append(Segment(*example.info.tokens, "shared", number))
        segments += [Segment(*branch.tokens, "branch", number, i) for i, branch in enumerate(example.branches)]
        segments += [Segment(start, stop, "visual", number) for start, stop in example.visual]
    return [*segments, Segment(view.n_tokens, view.max_tokens, "padding")]


BAR_HEIGHT, STRIP_HEIGHT = 52, 10


def draw_token_bar(view: RowView) -> Image.Image:
    """The row's tokens to scale over the whole width; below them a strip where a token has loss weight."""
    image, draw = _canvas(BAR_HEIGHT + STRIP_HEIGHT + 4 + 22)

    def x_of(token: int) -> int:
        return round(token * INNER / view.max_tokens)

    for segment in token_segments(view):
        left, right = x_of(segment.start), x_of(segment.stop)
        if segment.kind == "padding":
            _hatch(image, (left, 0, right, BAR_HEIGHT))
        elif right > left:
            draw.rectangle((left, 0, right - 1, BAR_HEIGHT - 1), fill=segment_colour(segment))
    for number, example in enumerate(view.examples):
        left, right = (x_of(token) for token in example.info.tokens)
        for start, stop in example.trained:
            draw.rectangle(
                (x_of(start), BAR_HEIGHT + 4, max(x_of(start), x_of(stop) - 1), BAR_HEIGHT + 3 + STRIP_HEIGHT),
                fill=TRAINED,
            )
        draw.line((right, 0, right, BAR_HEIGHT - 1), fill=CARD, width=2)
        if right - left > width_of(str(number + 1), HEADING) + 12:
            draw_text(draw, (left + 8, 14), str(number + 1), HEADING, CARD)
    _draw_ticks(draw, view.max_tokens, BAR_HEIGHT + STRIP_HEIGHT + 6)
    return image


def segment_colour(segment: Segment) -> Colour:
    """The example's colour; lighter for text, in two shades by turns for the branches of a tree."""
    colour = EXAMPLE_COLOURS[segment.example % len(EXAMPLE_COLOURS)]
    lightness = {"visual": 0.0, "shared": 0.25, "branch": 0.45 if segment.branch % 2 == 0 else 0.65}[segment.kind]
    return _lighter(colour, lightness)


def _lighter(colour: Colour, amount: float) -> Colour:
    red, green, blue = (round(value + (255 - value) * amount) for value in colour)
    return red, green, blue


def _hatch(image: Image.Image, box: tuple[int, int, int, int]) -> None:
    """Fills the box with slanted lines."""
    left, top, right, bottom = box
    if right <= left:
        return
    patch = Image.new("RGB", (right - left, bottom - top), CARD)
    draw = ImageDraw.Draw(patch)
    for x in range(-(bottom - top), right - left, 9):
        draw.line((x, bottom - top, x + bottom - top, 0), fill=FAINT)
    draw.rectangle((0, 0, patch.width - 1, patch.height - 1), outline=FAINT)
    image.paste(patch, (left, top))


def _draw_ticks(draw: ImageDraw.ImageDraw, total: int, top: int) -> None:
    for part in range(5):
        text = f"{total * part // 4:,}" + (" tokens" if part == 4 else "")
        x = min(INNER * part / 4, INNER - width_of(text, SMALL))
        draw_text(draw, (x - (width_of(text, SMALL) / 2 if 0 < part < 4 else 0), top), text, SMALL, PROMPT)


def draw_crop_bar(view: RowView) -> Image.Image:
    """A cell for each crop that the row has room for; an example's global crops are dark."""
    image, draw = _canvas(48)
    edges = [round(crop * INNER / view.max_crops) for crop in range(view.max_crops + 1)]
    for number, example in enumerate(view.examples):
        colour = EXAMPLE_COLOURS[number % len(EXAMPLE_COLOURS)]
        whole = {int(views[0].crops_YX[0, 0]) for views in example.pictures}
        whole |= {int(frame.view.crops_YX[0, 0]) for frame in example.frames}
        for crop in range(*example.info.crops):
            box = (edges[crop], 0, edges[crop + 1] - 3, 21)
            draw.rectangle(box, fill=colour if crop in whole else _lighter(colour, 0.45))
    for crop in range(view.n_crops, view.max_crops):
        _hatch(image, (edges[crop], 0, edges[crop + 1] - 2, 22))
    draw_text(draw, (0, 26), f"{view.max_crops} crops", SMALL, PROMPT)
    return image


def _draw_legend() -> Image.Image:
    image, draw = _canvas(24)
    colour = EXAMPLE_COLOURS[0]
    x = 0.0
    for text, fill in (
        ("visual tokens, global crops and frames", colour),
        ("text, other crops (branches of a message tree in two shades)", _lighter(colour, 0.45)),
        ("trained: loss weight above 0", TRAINED),
        ("padding", None),
    ):
        if fill is None:
            _hatch(image, (round(x), 3, round(x) + 22, 19))
        else:
            draw.rectangle((x, 3, x + 22, 18), fill=fill)
        draw_text(draw, (x + 30, 2), text, SMALL + 1, PROMPT)
        x += 30 + width_of(text, SMALL + 1) + 36
    return image


# ---- the cards ----


def _draw_card(example: ExampleView) -> Image.Image:
    """An example: what the loader says of it, its picture whole and in detail with its points, and its text."""
    number = example.info.segment
    colour = EXAMPLE_COLOURS[(number - 1) % len(EXAMPLE_COLOURS)]
    texts = _lay_out_texts(example, colour)
    pictures = [_draw_pictures(example, picture) for picture in range(len(example.pictures))]
    if example.frames:
        pictures.append(draw_film(example))
    text_height = sum(len(lines) for _, lines in texts) * _LINE + 6 * len(texts)
    pictures_height = sum(picture.height + 8 for picture in pictures)
    image, draw = _canvas(_HEADING_LINE + 2 * GAP + max(text_height, pictures_height), CARD)
    draw.rectangle((0, 0, 5, image.height), fill=colour)
    _draw_card_heading(draw, example, colour)
    top = _HEADING_LINE + GAP
    for picture in pictures:
        image.paste(picture, (GAP, top))
        top += picture.height + 8
    top = _HEADING_LINE + GAP
    for branch, lines in texts:
        if branch is not None:
            _draw_chip(draw, (_TEXT_LEFT, top + 3), branch)
        draw_lines(draw, (_TEXT_LEFT + _CHIP, top), lines, BODY, _LINE)
        top += len(lines) * _LINE + 6
    return image


def _draw_card_heading(draw: ImageDraw.ImageDraw, example: ExampleView, colour: Colour) -> None:
    info = example.info
    name = f"{info.segment}  {info.dataset}"
    draw_text(draw, (GAP, 8), name, HEADING, colour)
    n_tokens, n_crops = info.tokens[1] - info.tokens[0], info.crops[1] - info.crops[0]
    crops = f"{info.frames} frames" if info.frames else f"{n_crops} crops"
    branches = len(example.branches)
    facts = (
        f"example {info.index} of epoch {info.epoch}    {n_tokens:,} tokens    {crops}    "
        f"{branches} {'branch' if branches == 1 else 'branches'}    loss weight {info.loss_weight:,.1f}"
    )
    x = GAP + width_of(name, HEADING) + 24
    draw_text(draw, (x, 10), facts, BODY, PROMPT)
    if info.blanked:
        draw_text(draw, (x + width_of(facts, BODY) + 24, 10), f"left blank: {info.blanked}", BODY, ALARM)


def _draw_chip(draw: ImageDraw.ImageDraw, xy: tuple[int, int], branch: int) -> None:
    """The mark of a branch, in the colour of its points."""
    x, y = xy
    draw.ellipse((x, y, x + 14, y + 14), fill=branch_colour(branch), outline=CARD)


def _lay_out_texts(example: ExampleView, colour: Colour) -> list[tuple[int | None, list[Line]]]:
    """The lines of the shared part and of each branch, cut so that the card stays of a size."""
    parts: list[tuple[int | None, tuple[Span, ...]]] = [(None, example.shared)] if example.shared else []
    parts += [(i, branch.spans) for i, branch in enumerate(example.branches[:_MOST_BRANCHES])]
    width = _TEXT_WIDTH - _CHIP
    laid_out = [(branch, lay_out(_pieces(join_frames(spans), colour), width, BODY)) for branch, spans in parts]
    allowed = share_lines([len(lines) for _, lines in laid_out], _MOST_LINES)
    texts = [
        (branch, cut(lines, number, width, BODY)) for (branch, lines), number in zip(laid_out, allowed, strict=True)
    ]
    left_out = len(example.branches) - _MOST_BRANCHES
    if left_out > 0:
        texts.append((None, lay_out([Piece(f"{left_out} more branches", PROMPT, PROMPT)], width, BODY)))
    return texts


def _pieces(spans: Sequence[Span], colour: Colour) -> list[Piece]:
    colours = {"prompt": (PROMPT, FAINT), "trained": (TRAINED, _lighter(TRAINED, 0.45)), "visual": (colour, colour)}
    return [
        Piece(
            f"[{span.n_tokens - span.n_between:,} visual tokens] " if span.kind == "visual" else span.text,
            *colours[span.kind],
        )
        for span in spans
    ]


def _draw_pictures(example: ExampleView, picture: int) -> Image.Image:
    """One picture of an example, whole and in detail."""
    views = example.pictures[picture]
    points = [(point, branch_colour(i)) for i, branch in enumerate(example.branches) for point in _on(branch, picture)]
    drawn = [draw_view(view, points, size) for view, size in zip(views, (WHOLE, DETAIL), strict=False)]
    height = max(view.height for view in drawn)
    image = Image.new("RGB", (WHOLE[0] + GAP + DETAIL[0], height), CARD)
    draw = ImageDraw.Draw(image)
    for view, x in zip(drawn, (0, WHOLE[0] + GAP), strict=False):
        image.paste(view, (x, 0))
        draw.rectangle((x, 0, x + view.width - 1, view.height - 1), outline=RULE)
    return image


def _on(branch: Branch, picture: int) -> list[ParsedPoint]:
    return [point for point in branch.points if point.frame == picture + 1]
