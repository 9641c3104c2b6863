"""Telling a model not to point: questions that ask for a count get an instruction in front (Molmo2 §2.3).

Sets of free-form questions answer "how many" in plain words while the pointing sets answer it with points. The
instruction tells the two apart, so that neither teaches the model to ignore the other.
"""

import re

import numpy as np

NO_POINTING_PREFIXES = (
    "Answer without pointing.",
    "No points, please.",
    "Do not use points.",
    "Don't point.",
    "Reply in words only, without points.",
    "Please leave out any points.",
    "Do not mark anything in the image.",
    "Skip the points.",
    "Give the answer but no points.",
    "Text only, no coordinates.",
    "Please don't point at anything.",
    "Points are not needed here.",
    "Respond without marking locations.",
    "Avoid points in your reply.",
    "Do not list coordinates.",
    "Without pointing:",
    "no points",
    "no pointing please",
    "dont point",
    "Just say it, without points.",
    "A plain answer without coordinates will do.",
    "Refrain from pointing.",
    "There is no need to point.",
    "Write no point tags.",
    "Keep points out of the answer.",
    "Tell me in words, not in points.",
    "Use no points for this one.",
    "Answer directly instead of pointing.",
)
"""One is drawn uniformly. They vary in tone and care, as people's own instructions do."""

# What follows "how many" but is measured rather than counted. Matched as prefixes, so that plurals and compounds need
# no entries of their own; `\b` closes those that countable things also begin with (quarters, Europeans, lessons).
_MEASURED = (
    # time
    *("second", "minute", r"mins?\b", r"secs?\b", r"hours?\b", r"hrs?\b", r"days?\b", "week", "month", "year"),
    *(r"yrs?\b", "decade", "centur", r"times?\b", "millisecond"),
    # length, area, volume
    *("meter", "metre", "centimet", "millimet", "kilomet", r"[ckm]m\b", r"miles?\b", r"feet\b", r"foot\b", r"ft\b"),
    *(r"inch(?:es)?\b", r"yards?\b", "acre", "hectare", r"square (?:f|m|in|k|y|c)", "cubic", r"lit(?:er|re)s?\b"),
    *("millilit", "gallon", r"quarts?\b", r"pints?\b", "ounce", r"oz\b", "tablespoon", "teaspoon", r"tbsp\b"),
    *(r"tsp\b", r"cups? of\b"),
    # weight, speed, energy, temperature
    *(r"grams?\b", "kilogram", "milligram", r"kgs?\b", "pound", r"lbs?\b", r"tons?\b", "tonne", r"mph\b", r"knots\b"),
    *("watt", "kilowatt", r"volts?\b", r"amps?\b", "horsepower", "calorie", "joule", "degree", "percent", "decibel"),
    # money
    *("dollar", r"cents?\b", r"euros?\b", r"yen\b", "rupee", r"yuan\b", r"bucks\b"),
    # data and screens
    *("byte", "kilobyte", "megabyte", "gigabyte", "terabyte", r"[kmgt]b\b", r"bits\b", "pixel", "megapixel"),
    # attention, comparison, manner
    *(r"likes?\b", r"views?\b", "follower", "subscriber", "retweet", "upvote"),
    *(r"more\b", r"fewer\b", r"less\b", r"ways?\b"),
)
_NOT_MEASURED = rf"(?!{'|'.join(_MEASURED)})"
_ASKS_TO_COUNT = re.compile(
    rf"how ?many {_NOT_MEASURED}"
    r"|(?<!do not )\b(?:count|tally) (?:all|every|each|the) "
    r"|(?:there are|a total of) _{3,4}"
    r"|(?:what|what is|what's|states|indicates) (?:the |a )?(?:total )?(?:count|number|num|amount) of "
    rf"(?!money|the\b){_NOT_MEASURED}",
    re.IGNORECASE,
)


def asks_to_count(question: str) -> bool:
    """Whether the question asks how many of something can be counted in the picture; rather once too often than not.

    >>> asks_to_count("How many dogs are there?"), asks_to_count("How many minutes are left?")
    (True, False)
    """
    return not question.lower().startswith("approximately") and _ASKS_TO_COUNT.search(question) is not None


def with_no_pointing_prefix(question: str, rng: np.random.RandomState) -> str:
    """The question behind a random instruction not to point if it asks to count, else as it is (and nothing drawn)."""
    if not asks_to_count(question):
        return question
    return f"{NO_POINTING_PREFIXES[rng.randint(len(NO_POINTING_PREFIXES))]} {question}"
