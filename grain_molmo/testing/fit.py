"""Whether examples become tokens of a stage, and how many."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import MappingProxyType

from grain_molmo.datasets.base import Dataset
from grain_molmo.encode import Encoder, Lengths
from grain_molmo.errors import ConfigError, ExampleError
from grain_molmo.feature_batches import FeatureReader
from grain_molmo.packing.draw import Draw
from grain_molmo.stages import LONG_CONTEXT_STAGE, STAGES, Stage
from grain_molmo.testing.findings import Finding
from grain_molmo.testing.visits import Visit, told
from grain_molmo.text.tokenizer import Tokenizer

NAME = "dataset"
ROOMY = replace(LONG_CONTEXT_STAGE, name="check", mixture={NAME: 1}, rules={}, max_images=100)
"""The stage that is checked with where none is named: it takes all kinds of media, in the longest rows."""

_FORMS = "messages, message_list, question and answer, questions and answers, caption, points, or count"
_CURES = MappingProxyType(
    {
        "no_answer": f"give {_FORMS}",
        "empty_answer": "leave such turns out, or raise gm.ExampleError to have the example left out",
        "bad_roles": "let user and assistant alternate, the user first and the assistant last",
        "bad_text": "give text (str)",
        "bad_points": "give pairs of finite numbers",
        "no_scale": "give point_scale, or width and height",
        "no_label": "give a label",
        "too_long": "shorten it, or check with a stage of longer rows",
        "too_many_images": "show fewer, or check with a stage that takes more (max_images)",
        "too_many_crops": "show fewer, or check with a stage of more crops_per_row",
        "many_prompts": "take each message for itself, with grain_molmo.EachMessage(dataset)",
        "no_features": "give features, an array of numbers, and a label",
        "bad_features": "give finite numbers, of the same shape in every example",
        "bad_label": "give the number of the class",
        "video": "check with a stage that shows video (max_frames)",
    }
)
_SEE = "see grain_molmo.Dataset for the forms of examples"


def as_stage(stage: Stage | str | None) -> Stage:
    """The stage to check with. Raises ConfigError for an unknown name."""
    if stage is None:
        return ROOMY
    if isinstance(stage, Stage):
        return stage
    if stage not in STAGES:
        raise ConfigError(f"stage={stage!r}: must be one of {', '.join(STAGES)}, or a Stage")
    return STAGES[stage]


def lengths_of(
    dataset: Dataset, visits: Sequence[Visit], stage: Stage, tokenizer: Tokenizer, seed: int
) -> Iterator[Lengths | Finding]:
    """For each visited example what it takes of a row of the stage, or why it takes none."""
    if stage is ROOMY and any("features" in visit.facts for visit in visits):
        stage = replace(ROOMY, kind="features")
    try:
        measure = _measure(dataset, stage, tokenizer, seed)
    except ConfigError as error:
        yield Finding(check="stage", what=str(error), cure=_CURES["no_features"])
        return
    for visit in visits:
        try:
            yield measure(Draw(NAME, 0, visit.index))
        except ExampleError as error:
            detail = error.detail.partition(": ")[2] or error.detail  # which example it is, the finding says
            what, cure = f"it cannot be used ({error.reason}): {detail}", _CURES.get(error.reason, _SEE)
            yield Finding(check="stage", what=what, cure=cure, index=visit.index, id=visit.id)
        except Exception as error:  # of a field that nobody expected
            what = f"it cannot be used: {told(error)}"
            yield Finding(check="stage", what=what, cure=_SEE, index=visit.index, id=visit.id)


def _measure(dataset: Dataset, stage: Stage, tokenizer: Tokenizer, seed: int) -> Callable[[Draw], Lengths]:
    """What the loader makes of a draw, down to its lengths. Raises ConfigError if a stage of features finds none."""
    if stage.kind != "features":
        encoder = Encoder({NAME: dataset}, stage, tokenizer, seed)
        return lambda draw: encoder(draw).lengths
    reader = FeatureReader.of({NAME: dataset}, stage, seed)

    def read(draw: Draw) -> Lengths:
        reader(draw)
        planned = reader.plan(draw)
        return Lengths(planned.n_tokens, planned.n_crops, planned.n_pooled, planned.cost)

    return read
