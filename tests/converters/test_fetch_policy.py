"""What may be tried again, and what the command line says about fetching."""

import argparse

import pytest

from converters.fetch.policy import FetchPolicy, add_fetch_arguments, fetch_policy_from
from converters.fetch.reasons import REASONS, may_pass
from grain_molmo.errors import ConfigError


def policy(*words: str) -> FetchPolicy:
    parser = argparse.ArgumentParser()
    add_fetch_arguments(parser)
    return fetch_policy_from(parser.parse_args(words))


def test_without_arguments_the_policy_is_the_usual_one():
    assert policy() == FetchPolicy()


def test_arguments_set_the_policy():
    words = ["--connections", "8", "--per-host", "2", "--timeout", "3", "--attempts", "5", "--allow-host", "10.0.0.0/8"]
    found = policy(*words, "--allow-host", "pictures.internal")
    assert (found.connections, found.per_host, found.attempts) == (8, 2, 5)
    assert (found.connect_timeout_s, found.read_timeout_s, found.total_timeout_s) == (3.0, 3.0, 9.0)
    assert (found.allow_private, found.allow_hosts) == (False, ("10.0.0.0/8", "pictures.internal"))
    assert policy("--allow-private").allow_private


@pytest.mark.parametrize("words", [["--connections", "0"], ["--timeout", "0"], ["--timeout", "nan"]])
def test_bounds_that_bound_nothing_are_wrong_usage(words: list[str]):
    with pytest.raises(SystemExit):
        policy(*words)


def test_a_policy_without_an_attempt_is_refused():
    with pytest.raises(ConfigError, match="attempts must be at least 1"):
        FetchPolicy(attempts=0)


@pytest.mark.parametrize(
    ("reason", "passing"),
    [
        ("timeout", True),
        ("transport_error", True),
        ("unknown_host", True),
        ("http_408", True),
        ("http_425", True),
        ("http_429", True),
        ("http_500", True),
        ("http_503", True),
        ("http_999", True),
        ("http_302", False),
        ("http_404", False),
        ("hash_mismatch", False),
        ("private_address", False),
        ("empty_caption", False),
        ("http_", False),
    ],
)
def test_what_a_later_run_may_try_again(reason: str, passing: bool):
    assert may_pass(reason) is passing


def test_the_table_agrees_with_the_rule():
    for reason, (_, passing) in REASONS.items():
        assert may_pass(reason) is passing
