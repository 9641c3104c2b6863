"""Conversations and visual tokens to the five token arrays of one example (Molmo2 §6.1-6.2).

A message tree (several conversations about the same picture) becomes one sequence: a shared prefix with the visual
tokens, then the branches one after another. Each branch's positions start where the prefix ends, and its subsegment id
hides it from the others, so the model sees each as if it came alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from grain_molmo.errors import ExampleError
from grain_molmo.special_tokens import IMAGE, SPECIAL_TOKENS, VISUAL_OFFSETS
from grain_molmo.text.tokenizer import Tokenizer
from grain_molmo.text.weights import PRETRAINING, LossWeighting

SHARED_SUBSEGMENT = 10_000
"""Subsegment id of the prefix that all branches see; the branches are 0, 1, 2, ..."""


@dataclass(frozen=True)
class TokenArrays:
    """One example as the model reads it, n tokens long; `target_tokens[i]` is what follows `input_tokens[i]`.

    Attributes:
        input_tokens, target_tokens: [n] int32.
        loss_weights: [n] float32, 0 where the target is not an answer.
        position_ids: [n] int32.
        subsegment_ids: [n] int32 for a tree of several branches, else None.
    """

    input_tokens: np.ndarray
    target_tokens: np.ndarray
    loss_weights: np.ndarray
    position_ids: np.ndarray
    subsegment_ids: np.ndarray | None

    def __len__(self) -> int:
        return len(self.input_tokens)


@dataclass(frozen=True)
class _Branch:
    """One conversation as ids without BOS and without the last EOS, and where its answers lie among them."""

    ids: list[int]
    answers: list[tuple[int, int]]  # [start, end), with the EOS between turns
    media_at: int  # how many ids come before the visual tokens

    @property
    def num_answer_tokens(self) -> int:
        return sum(end - start for start, end in self.answers)


def assemble(
    conversations: Sequence[str] | Sequence[Sequence[str]],
    visual_tokens: np.ndarray,
    tokenizer: Tokenizer,
    *,
    weighting: LossWeighting = PRETRAINING,
    max_length: int | None = None,
) -> TokenArrays:
    """The token arrays of one example.

    Args:
        conversations: the strings of one conversation, user and assistant in turn, chat markers included
            (`chat_strings`); or a list of such lists, a message tree. A tree of one branch is that conversation.
        visual_tokens: [v] int32, ids of the pictures or frames, empty for text alone. They take the place of an
            `<|image|>` in the user's text, else they follow BOS.
        tokenizer: gives ids.
        weighting: how much answer tokens count.
        max_length: drops a tree's branch, and all after it, whose first answer token would lie at or beyond this
            length. The first branch always stays, and the last one kept may run over: see `truncate`.

    Raises:
        ExampleError: `no_answer` (nothing to learn from), `visual_loss` (an answer right after the visual tokens),
            `control_token` (a special token spelled out in the text), `bad_text` (not text at all).
    """
    if not conversations:
        raise ExampleError("no_answer", "there are no messages")
    is_tree = not isinstance(conversations[0], str)
    trees = cast("Sequence[Sequence[str]]", conversations if is_tree else [conversations])
    for turns in trees:
        if len(turns) < 2 or len(turns) % 2:
            raise ExampleError("no_answer", f"{len(turns)} messages: each of the user's needs an answer")
    branches = [_tokenize(turns, tokenizer, has_media=len(visual_tokens) > 0) for turns in trees]
    for branch in branches:
        _check(branch, has_media=len(visual_tokens) > 0, has_siblings=len(branches) > 1)
    branches = _branches_that_fit(branches, len(visual_tokens), max_length)
    return _join(branches, visual_tokens, tokenizer, weighting, is_tree=len(trees) > 1)


def assemble_prompt(turns: Sequence[str], visual_tokens: np.ndarray, tokenizer: Tokenizer) -> TokenArrays:
    """The token arrays of a conversation that ends with the user's turn: nothing shifted, nothing learned (§6.1).

    Args:
        turns: as of `assemble`, an odd number.
        visual_tokens: [v] int32, as of `assemble`.
        tokenizer: gives ids.

    Returns:
        All tokens of the conversation, after which a model goes on; targets and loss weights are 0.

    Raises:
        ExampleError: `control_token`, `bad_text`, as `assemble` does.
    """
    branch = _tokenize(turns, tokenizer, has_media=len(visual_tokens) > 0)
    before = np.array([tokenizer.bos_id, *branch.ids[: branch.media_at]], np.int32)
    input_tokens = np.concatenate([before, visual_tokens, np.array(branch.ids[branch.media_at :], np.int32)])
    input_tokens = input_tokens.astype(np.int32, copy=False)
    positions = np.arange(len(input_tokens), dtype=np.int32)
    return TokenArrays(input_tokens, np.zeros_like(positions), np.zeros(len(positions), np.float32), positions, None)


def truncate(arrays: TokenArrays, length: int, tokenizer: Tokenizer) -> TokenArrays:
    """The first `length` tokens of the example (Molmo2 §9).

    Raises:
        ExampleError: `too_long` if that would cut visual tokens off, or all of the answer.
    """
    if len(arrays) <= length:
        return arrays
    if np.isin(arrays.input_tokens[length:] - tokenizer.special_base, VISUAL_OFFSETS).any():
        raise ExampleError("too_long", f"the visual tokens of {len(arrays)} tokens do not fit into {length}")
    if arrays.loss_weights.any() and not arrays.loss_weights[:length].any():
        raise ExampleError("too_long", f"no answer token among the first {length} of {len(arrays)}")
    subsegments = arrays.subsegment_ids
    return TokenArrays(
        arrays.input_tokens[:length],
        arrays.target_tokens[:length],
        arrays.loss_weights[:length],
        arrays.position_ids[:length],
        None if subsegments is None else subsegments[:length],
    )


def plain_ids(text: str, tokenizer: Tokenizer) -> list[int]:
    """Ids of text that stands among the visual tokens (subtitles). Raises ExampleError as `assemble` does."""
    ids = _encode(text, tokenizer)
    if special := _special_offsets(ids, tokenizer):
        raise _spelled_out(special)
    return ids


def _tokenize(turns: Sequence[str], tokenizer: Tokenizer, has_media: bool) -> _Branch:
    ids: list[int] = []
    answers: list[tuple[int, int]] = []
    media_at = None
    for i, text in enumerate(turns):
        start, is_answer = len(ids), i % 2 == 1
        turn = _encode(text, tokenizer)
        if special := _special_offsets(turn, tokenizer):
            if special != [IMAGE] or not has_media or is_answer or media_at is not None:
                raise _spelled_out(special)
            placeholder = turn.index(tokenizer.special_id(IMAGE))
            del turn[placeholder]
            media_at = start + placeholder
        ids += turn
        if is_answer:
            if i + 1 < len(turns):
                ids.append(tokenizer.eos_id)
            answers.append((start, len(ids)))
    return _Branch(ids, answers, media_at or 0)


def _encode(text: str, tokenizer: Tokenizer) -> list[int]:
    try:
        return tokenizer.encode(text)
    except (TypeError, UnicodeError) as error:  # not a string, or one with half a surrogate pair
        raise ExampleError("bad_text", f"{text!r:.80} cannot be turned into tokens ({error})") from error


def _special_offsets(ids: list[int], tokenizer: Tokenizer) -> list[int]:
    base = tokenizer.special_base
    if not ids or max(ids) < base:  # nearly always
        return []
    return [i - base for i in ids if 0 <= i - base < len(SPECIAL_TOKENS)]


def _spelled_out(offsets: list[int]) -> ExampleError:
    """Visual tokens must line up one to one with pooled features, so none may come in by way of a caption."""
    found = ", ".join(dict.fromkeys(SPECIAL_TOKENS[offset] for offset in offsets))
    return ExampleError("control_token", f"the text spells out {found}, which stand for media, not for text")


def _check(branch: _Branch, has_media: bool, has_siblings: bool) -> None:
    if has_siblings and not branch.num_answer_tokens:
        raise ExampleError("no_answer", "a branch of the message tree has an empty answer")
    if has_siblings and branch.answers[0][0] < branch.media_at:
        raise ExampleError("visual_loss", "a branch of the message tree answers before the visual tokens")
    if (has_media or has_siblings) and any(start == branch.media_at for start, _ in branch.answers):
        raise ExampleError("visual_loss", "an answer follows the visual tokens with nothing of the user's between")


def _branches_that_fit(branches: list[_Branch], num_visual: int, max_length: int | None) -> list[_Branch]:
    if max_length is None:
        return branches
    used = num_visual + 1 + len(branches[0].ids)
    for kept, branch in enumerate(branches[1:], start=1):
        if used + branch.answers[0][0] >= max_length:
            return branches[:kept]
        used += len(branch.ids)
    return branches


def _join(
    branches: list[_Branch], visual_tokens: np.ndarray, tokenizer: Tokenizer, weighting: LossWeighting, is_tree: bool
) -> TokenArrays:
    shared = [tokenizer.bos_id]
    own: list[int] = []
    for branch in branches:
        shared += branch.ids[: branch.media_at]
        own += branch.ids[branch.media_at :]
    input_tokens = np.concatenate([np.array(shared, np.int32), visual_tokens, np.array(own, np.int32)], dtype=np.int32)
    target_tokens = np.append(input_tokens[1:], np.int32(tokenizer.eos_id))
    loss_weights = np.zeros(len(input_tokens), np.float32)
    position_ids = np.arange(len(input_tokens), dtype=np.int32)
    subsegment_ids = np.full(len(input_tokens), SHARED_SUBSEGMENT, np.int32) if is_tree else None

    prefix = begin = len(shared) + len(visual_tokens)
    for number, branch in enumerate(branches):
        end = begin + len(branch.ids) - branch.media_at
        # the last EOS counts among the answer tokens of a lone conversation, but not in a tree (Molmo2 §11)
        num_answer_tokens = branch.num_answer_tokens + (not is_tree)
        weight = weighting.token_weight(num_answer_tokens, len(branches))
        for answer_start, answer_end in branch.answers:
            # from the branch's ids to targets, which are one ahead of inputs; before the visual tokens BOS makes up
            # for that one
            shift = begin - branch.media_at - 1 if answer_start >= branch.media_at else 0
            loss_weights[answer_start + shift : answer_end + shift] = weight
        target_tokens[end - 1] = tokenizer.eos_id
        loss_weights[end - 1] = weight
        position_ids[begin:end] -= begin - prefix
        if subsegment_ids is not None:
            subsegment_ids[begin:end] = number
        begin = end
    return TokenArrays(input_tokens, target_tokens, loss_weights, position_ids, subsegment_ids)
