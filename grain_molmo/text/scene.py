"""What a message is said about, and a pointing message made ready to be asked and answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from grain_molmo.errors import ExampleError


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What surrounds a message.

    Attributes:
        image_sizes: (width, height) of each picture, or of the video.
        frame_times: seconds from the clip's start, of the frames that are shown; None if not known.
        point_format: "markup" or "plain".
        training: whether forms vary, as in training, or are the one of evaluation.
        answered: whether there is an answer to write; a prompt needs none, and its points may be unknown.
    """

    image_sizes: Sequence[tuple[int, int]] = ()
    frame_times: Sequence[float] | None = None
    point_format: str = "markup"
    training: bool = True
    answered: bool = True

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(width, height) of the first picture, or of the video."""
        return self.image_sizes[0] if self.image_sizes else None

    @property
    def is_plain(self) -> bool:
        """Whether points are written in pixels, without markup."""
        return self.point_format == "plain"

    def pixel_size(self, size_of_message: tuple[int, int] | None = None, image: int = 0) -> tuple[int, int]:
        """(width, height) that plain points are in pixels of: the picture's, else what the message says."""
        size = self.image_sizes[image] if image < len(self.image_sizes) else size_of_message
        if size is None:
            raise ExampleError("no_scale", "plain points are in pixels; pass image_sizes")
        return size


@dataclass(frozen=True, kw_only=True)
class Task:
    """A pointing message whose draws are made: what to ask and what to answer.

    Attributes:
        answer: what the model must write.
        subject: what the fields alone ask for, in prompt mode "none".
        templates: prompts to draw one from, with `words` for their keywords.
        question: the dataset's own prompt, which takes the place of both.
    """

    answer: str
    subject: str
    templates: Sequence[str]
    words: Mapping[str, str] = field(default_factory=dict)
    question: str | None = None
