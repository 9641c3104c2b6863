"""Which styles are answered with points, and by which room of rules."""

import numpy as np

from grain_molmo.text import image_answers, multi_image_answers, track_answers, video_answers
from grain_molmo.text.fields import Message, style_of
from grain_molmo.text.scene import Scene, Task


def pointing_task(message: Message, scene: Scene, rng: np.random.RandomState) -> Task | None:
    """What to ask and answer if the message's style is answered with points, else None."""
    style = style_of(message)
    if style in image_answers.TEMPLATES:
        return image_answers.image_task(message, scene)
    if style in video_answers.TEMPLATES:
        return video_answers.video_point_task(message, scene)
    if style in track_answers.STYLES:
        return track_answers.track_task(message, scene, rng)
    if style in multi_image_answers.TEMPLATES:
        return multi_image_answers.multi_image_task(message, scene, rng)
    return None
