"""What is checked of a dataset as a whole: its length, its indices, its ids and its fingerprint."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from grain_molmo.datasets.base import Dataset, StoreDataset
from grain_molmo.testing.facts import RAISED, facts_of, first_difference, shown
from grain_molmo.testing.findings import Finding
from grain_molmo.testing.visits import Visit, told

_ABSENT = "no fingerprint"


def length_of(dataset: Dataset) -> int | Finding:
    """`len(dataset)`, or why there is none to work with."""
    try:
        length = len(dataset)
    except Exception as error:  # of a dataset of the user's own
        what, cure = f"len(dataset) raised {told(error)}", "let __len__ return the number of examples, an int"
        return Finding(check="length", what=what, cure=cure)
    if length == 0:
        cure = "see that the split is not empty and that its files are where it looks for them"
        return Finding(check="length", what="it has no examples", cure=cure)
    return length


def length_kept(dataset: Dataset, length: int) -> Iterator[Finding]:
    """Whether the length is the same after the examples were asked for."""
    if (now := len(dataset)) != length:
        what = f"len(dataset) was {length:,} before examples were asked for, and is {now:,} now"
        yield Finding(check="length", what=what, cure="a dataset may not grow or shrink; filter in __init__")


def access_findings(dataset: Dataset, length: int, num_iterated: int) -> Iterator[Finding]:
    """Whether `dataset[i]` counts from either end and ends, and iteration does; for grain.MapDataset and for people."""
    cure = "leave __getitem__ and __iter__ to grain_molmo.Dataset, or index range(len(self)) with the number first"
    last, from_end = _item(dataset, length - 1), _item(dataset, -1)
    if difference := first_difference(last, from_end):
        place, had, has = difference
        what = f"dataset[-1] is not dataset[{length - 1}]: {place} is {shown(has)}, not {shown(had)}"
        yield Finding(check="access", what=what, cure=cure)
    for outside in (length, -length - 1):
        if not _item(dataset, outside).get(RAISED, "").startswith("IndexError"):
            yield Finding(check="access", what=f"dataset[{outside}] raises no IndexError", cure=cure)
    if type(dataset).__iter__ is not Dataset.__iter__ and length <= num_iterated:
        try:
            count = sum(1 for _ in islice(dataset, length + 1))
        except Exception as error:
            yield Finding(check="access", what=f"iteration raised {told(error)}", cure=cure)
            return
        if count != length:
            many = f"{count:,}" if count < length else f"more than {length:,}"
            what = f"iteration gives {many} examples, len(dataset) is {length:,}"
            yield Finding(check="access", what=what, cure=cure)


def id_findings(dataset: Dataset, length: int, visits: Iterable[Visit]) -> Iterator[Finding]:
    """Examples with an id that another one has, or with another id than the dataset says without making them."""
    made = [visit for visit in visits if visit.error is None]
    try:
        listed = getattr(dataset, "ids", None)
        ids = None if listed is None else [str(one) for one in listed]
    except Exception:  # told below, of each example
        ids = None
    if ids is not None and len(ids) != length:
        what = f"`ids` has {len(ids):,} entries, len(dataset) is {length:,}"
        yield Finding(check="ids", what=what, cure="let `ids` have the id of each example, in their order")
    first: dict[str, int] = {}
    for index, known in enumerate(ids) if ids is not None else ((visit.index, visit.id) for visit in made):
        if known and (other := first.setdefault(known, index)) != index:
            what = f"example {other} has the same id"
            cure = "give each its own: quarantines, curricula and predictions know examples by it"
            yield Finding(check="ids", what=what, cure=cure, index=index, id=known, field="metadata.id")
    for visit in made:
        try:
            said = _said_id(dataset, visit.index)
        except Exception as error:  # of an attribute of the user's own
            said = told(error)
        if said not in (None, visit.id or str(visit.index)):
            what = f"the dataset says that its id is {said!r}"
            cure = "let `ids` (or `example_id`) say what metadata says, or the index as text"
            yield Finding(check="ids", what=what, cure=cure, index=visit.index, id=visit.id, field="metadata.id")


def _said_id(dataset: Dataset, index: int) -> str | None:
    if (ids := getattr(dataset, "ids", None)) is not None:
        return str(ids[index])
    return dataset.example_id(index) if isinstance(dataset, StoreDataset) else None


def fingerprint_of(dataset: Dataset) -> str:
    """The dataset's fingerprint as text; what it raised, if it did."""
    try:
        return repr(getattr(dataset, "fingerprint", _ABSENT))
    except Exception as error:
        return f"raises {told(error)}"


def fingerprint_findings(dataset: Dataset, known: str, others: Sequence[tuple[str, Dataset]]) -> Iterator[Finding]:
    """Whether the fingerprint is text, and the same as it was known before, here and in others that hold the same."""
    if known == repr(_ABSENT):
        return
    cure = "let `fingerprint` be text that stands for the examples and is the same in every process"
    fingerprint = getattr(dataset, "fingerprint", _ABSENT) if not known.startswith("raises ") else None
    if not isinstance(fingerprint, str) or not fingerprint:
        what = f"fingerprint {known}" if known.startswith("raises ") else f"fingerprint is {shown(known)}"
        yield Finding(check="fingerprint", what=what, cure=cure)
        return
    for where, other in [("after examples were asked for", dataset), *others]:
        if (now := fingerprint_of(other)) != known:
            what = f"fingerprint was {shown(known)} and is {shown(now)} {where}"
            yield Finding(check="fingerprint", what=what, cure=cure)


def _item(dataset: Dataset, index: int) -> dict[str, str]:
    try:
        return dict(facts_of(dataset[index]))
    except Exception as error:
        return {RAISED: told(error)}
