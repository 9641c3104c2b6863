"""Text to token ids and back, with Molmo2's 14 special tokens at known ids (Molmo2 §1.1-1.3)."""

import gzip
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Backend

from grain_molmo.errors import ConfigError
from grain_molmo.special_tokens import SPECIAL_TOKENS

BYTES = "bytes"
"""Name of the tokenizer that is built in."""
DEFAULT_TOKENIZER = "Qwen/Qwen3-4B"
TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"

QWEN3_TURN_END_ID = 151645
QWEN3_EMBEDDING_ROWS = 151936
"""Qwen3's embedding matrix is longer than its vocabulary of 151,669; the special tokens start after the matrix."""

BOS_NAMES = ("<s>", "<bos>", "<|begin_of_text|>")
EOS_NAMES = ("<|endoftext|>", "</s>", "<eos>", "<|end_of_text|>")
PAD_NAMES = ("<|endoftext|>", "<pad>", "[PAD]")


class Tokenizer:
    """A `tokenizers` tokenizer with the special tokens in place; pickles by content, so it can go to any process.

    `load_tokenizer` makes one, and explains the arguments.

    Args:
        backend: a `tokenizers.Tokenizer`, taken over and given what it lacks.
        name: what it was loaded as, for people.
        special_base, eos_token: as of `load_tokenizer`.

    Attributes:
        name: the same.
        bos_id, eos_id, pad_id: BOS is EOS where the vocabulary has no BOS of its own (Molmo2 §1.3).
        special_base: id of the first special token; `special_base + offset` are the others.
        vocab_size: number of ids, the special tokens included.

    Raises:
        ConfigError: no end-of-text token, or special tokens at clashing ids.
    """

    def __init__(
        self, backend: Backend, name: str, *, special_base: int | None = None, eos_token: str | None = None
    ) -> None:
        self.name = name
        self._backend = backend
        backend.no_truncation()
        backend.no_padding()
        # only tokens declared as such: Qwen3's ordinary vocabulary also holds "<s>"
        control_ids = {token.content: i for i, token in backend.get_added_tokens_decoder().items()}
        self.eos_id = self._find_eos(control_ids, eos_token)
        bos, pad = _first_known(control_ids, BOS_NAMES), _first_known(control_ids, PAD_NAMES)
        self.bos_id = self.eos_id if bos is None else bos
        self.pad_id = self.eos_id if pad is None else pad
        size = _id_count(backend)
        self.special_base = self._choose_base(special_base, size)
        self._place_special_tokens(size)
        self.vocab_size = max(size, self.special_base + len(SPECIAL_TOKENS))
        self._control_ids = {token.content: i for i, token in backend.get_added_tokens_decoder().items()}
        any_control = "|".join(map(re.escape, self._control_ids))
        self._control_strings = re.compile(f"({any_control})") if name == BYTES else None

    def encode(self, text: str) -> list[int]:
        """Ids of `text` with nothing added; control strings in the text become their ids (Molmo2 §1.3)."""
        if self._control_strings is None:
            return self._backend.encode(text, add_special_tokens=False).ids
        # Ids of "bytes" are the bytes themselves: thirty times as fast as to have them looked up.
        ids: list[int] = []
        for i, part in enumerate(self._control_strings.split(text)):
            ids += (self._control_ids[part],) if i % 2 else part.encode()
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids, special tokens shown as their strings. Ids outside the vocabulary are left out."""
        return self._backend.decode([int(i) for i in ids], skip_special_tokens=False)

    def special_id(self, offset: int) -> int:
        """Id of the special token at `offset` of `grain_molmo.special_tokens`."""
        return self.special_base + offset

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that decides which ids a text gets; equal in every process."""
        digest = hashlib.sha256(self._backend.to_str().encode())
        digest.update(repr((self.bos_id, self.eos_id, self.pad_id, self.special_base)).encode())
        return digest.hexdigest()[:16]

    def __repr__(self) -> str:
        return f"Tokenizer({self.name!r}, vocab_size={self.vocab_size}, special_base={self.special_base})"

    def _find_eos(self, control_ids: Mapping[str, int], eos_token: str | None) -> int:
        if eos_token is not None:
            found = self._backend.token_to_id(eos_token)
            names = (eos_token,)
        else:
            names = (TURN_END, *EOS_NAMES) if TURN_START in control_ids else EOS_NAMES
            found = _first_known(control_ids, names)
        if found is None:
            raise ConfigError(
                f"tokenizer {self.name!r} has none of {', '.join(names)}; pass the string of its end-of-text token: "
                "load_tokenizer(..., eos_token=...)"
            )
        return found

    def _choose_base(self, special_base: int | None, size: int) -> int:
        if special_base is not None:
            return special_base
        present = self._backend.token_to_id(SPECIAL_TOKENS[0])
        if present is not None:
            return present
        is_qwen3 = self._backend.token_to_id(TURN_END) == QWEN3_TURN_END_ID and size <= QWEN3_EMBEDDING_ROWS
        return QWEN3_EMBEDDING_ROWS if is_qwen3 else size

    def _place_special_tokens(self, size: int) -> None:
        """Adds fillers up to the base, then the special tokens; those that the file has keep their ids."""
        base = self.special_base
        self._backend.add_special_tokens([_control(f"|<EXTRA_TOKENS_{i}>|") for i in range(base - size)])
        self._backend.add_special_tokens([_control(token) for token in SPECIAL_TOKENS])
        for offset, token in enumerate(SPECIAL_TOKENS):
            if (found := self._backend.token_to_id(token)) != base + offset:
                raise ConfigError(
                    f"tokenizer {self.name!r}: {token} has id {found} where {base + offset} is needed; its vocabulary "
                    f"takes ids up to {size - 1}, so pass a special_base of at least {size}, or a file without {token}"
                )


def load_tokenizer(
    spec: str | os.PathLike | Tokenizer, *, special_base: int | None = None, eos_token: str | None = None
) -> Tokenizer:
    """The tokenizer that `spec` names, with the special tokens added where its file lacks them.

    Args:
        spec: "bytes" (built in: 256 bytes, three control tokens, the special tokens), the path of a `tokenizer.json`
            or `tokenizer.json.gz` or of a folder holding one, or a name on the Hugging Face hub. A `Tokenizer` is
            returned as it is.
        special_base: id of the first special token, the number of rows of the language model's embedding matrix. By
            default where the file already has it; 151,936 for Qwen3; else the size of the vocabulary. Ids in between
            are filled with unused tokens (Molmo2 §1.2).
        eos_token: string of the token that ends an answer. By default `<|im_end|>` where the vocabulary has chat turns,
            else the first of `EOS_NAMES`.

    Raises:
        ConfigError: nothing there, not a tokenizer, no end-of-text token, or special tokens at clashing ids.
    """
    if isinstance(spec, Tokenizer):
        if special_base is not None or eos_token is not None:
            raise ConfigError("special_base and eos_token belong to loading: pass the tokenizer's path or name instead")
        return spec
    if not isinstance(spec, str | os.PathLike):
        raise ConfigError(f'tokenizer {spec!r}: pass the path of a tokenizer.json, a hub name or "bytes"')
    name = os.fspath(spec)
    if name == BYTES:
        backend = _byte_backend()
    elif (path := Path(name).expanduser()).exists():
        backend = _backend_from_path(path)
    elif name.startswith(("/", ".", "~")) or name.endswith((".json", ".json.gz")):
        raise ConfigError(f'tokenizer {name!r}: no such file; pass the path of a tokenizer.json, a hub name or "bytes"')
    else:
        backend = _backend_from_hub(name)
    return Tokenizer(backend, name, special_base=special_base, eos_token=eos_token)


def _backend_from_path(path: Path) -> Backend:
    if path.is_dir():
        files = [path / "tokenizer.json", path / "tokenizer.json.gz"]
        found = next((file for file in files if file.is_file()), None)
        if found is None:
            raise ConfigError(f"{path}: no tokenizer.json or tokenizer.json.gz in this folder")
        path = found
    try:
        data = path.read_bytes()
        return Backend.from_buffer(gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data)
    except (OSError, EOFError, ValueError) as error:
        raise ConfigError(f"{path}: not a tokenizer.json of the tokenizers library ({error})") from error


def _backend_from_hub(name: str) -> Backend:
    try:
        return Backend.from_pretrained(name)
    except Exception as error:  # the hub client has no common base for its errors
        raise ConfigError(
            f"tokenizer {name!r}: no such file here, and the Hugging Face hub gave no tokenizer.json for it ({error}); "
            'pass the path of a tokenizer.json, a hub name that you can reach, or "bytes"'
        ) from None  # the client's own trace is many screens long and says no more


def _byte_backend() -> Backend:
    """Ids 0-255 are the bytes of UTF-8, then `<|endoftext|>` 256, `<|im_start|>` 257, `<|im_end|>` 258."""
    vocab = {char: byte for byte, char in enumerate(_printable_bytes())}
    backend = Backend(models.BPE(vocab=vocab, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([_control(token) for token in ("<|endoftext|>", TURN_START, TURN_END)])
    return backend


def _printable_bytes() -> list[str]:
    """The character that stands for each byte in byte-level vocabularies: itself, or from U+0100 on if not visible."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = iter(range(0x100, 0x200))
    return [chr(byte if byte in visible else next(hidden)) for byte in range(256)]


def _first_known(ids: Mapping[str, int], names: Iterable[str]) -> int | None:
    return next((ids[name] for name in names if name in ids), None)


def _control(token: str) -> AddedToken:
    return AddedToken(token, special=True, normalized=False)


def _id_count(backend: Backend) -> int:
    """One more than the largest id; the vocabulary's own size may count less where ids have holes."""
    return max(max(backend.get_vocab(with_added_tokens=True).values()) + 1, backend.get_vocab_size())
