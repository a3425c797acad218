"""Text, as tokens: characters, bytes, those of a tokenizer's file, or a file of tokens larger than memory."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from dlfn.core import InputError
from dlfn.train.data.reading import existing_file, readable, require_choice
from dlfn.train.data.source import Dataset
from dlfn.train.data.windows import MappedWindows, Windows

__all__ = ["text", "text_codec"]


def text(
    path: str = "topics",
    *,
    tokens: str = "characters",
    context: int = 64,
    test: str = "",
    test_fraction: float = 0.1,
    vocabulary: int = 0,
    dtype: Literal["uint16", "uint32"] = "uint16",
    seed: int = 0,
) -> Dataset:
    """Text for a model that names the next token.

    ``info`` has ``vocabulary`` (how many tokens there are), ``context``, ``encode`` and ``decode``, ``tokens`` and
    ``characters``, of which :func:`text_codec` makes these two again, and the SHA-256 of the text, as the default
    differs between versions of Python.

    Args:
        path: a file of text in UTF-8, or of tokens: ``.npy``, or ``.bin`` (nothing but the numbers), which is not
            read into memory. ``topics`` is the text of Python's reference (pydoc_data.topics, about 465,000
            characters), unless there is a file of that name.
        tokens: what the text is cut into: ``characters`` (those of the text), ``bytes``, or the path of a file of
            Hugging Face's tokenizers, which asks for that package. Of a file of tokens: by which of the two latter they
            were made, for ``encode`` and ``decode``.
        context: how many tokens a model reads at once.
        test: a file of the same kind to test on; without it, the last part of the text is.
        test_fraction: the length of that part; 0 for none.
        vocabulary: of a file of tokens: how many there are; if not given, those of ``tokens``, or one more than the
            largest in the file.
        dtype: of the numbers in a ``.bin`` file, in the machine's byte order.
        seed: there is nothing to choose: what is tested on is the end of the text.

    Raises:
        InputError: where a file cannot be read, is no UTF-8, is cut short, or holds tokens beyond the vocabulary, where
            a part is shorter than a window, and where tokenizers is not installed.

    >>> data = text(context=8)
    >>> window = data.test.rows(0, 1)[0]
    >>> window.shape, len(data.info["decode"](window)), data.info["encode"]("for x in y").shape
    ((9,), 9, (10,))
    """
    require_choice("dtype", dtype, ("uint16", "uint32"))
    if not 0 <= test_fraction < 1:
        raise InputError(f"test_fraction = {test_fraction}: must be at least 0 and below 1, such as 0.1")
    paths = {"path": path, "test": test} if test else {"path": path}
    mapped = {Path(name).suffix in (".bin", ".npy") for name in paths.values()}
    if len(mapped) > 1:
        raise InputError(f"path = {path!r} and test = {test!r}: one is text and the other tokens; both must be alike")
    info: dict[str, Any] = {}
    if mapped == {True}:
        parts, window = [_mapped(key, name, dtype) for key, name in paths.items()], MappedWindows
        if tokens != "characters":
            codec = text_codec(tokens)
            vocabulary, info = vocabulary or codec.vocabulary, _known(tokens, "", codec)
        info["vocabulary"] = _vocabulary(parts, [*paths.values()], vocabulary)
    else:
        if vocabulary:
            raise InputError(f"vocabulary = {vocabulary} is for files of tokens; that of a text follows from tokens")
        texts = [_read(key, name) for key, name in paths.items()]
        characters = _characters_of(texts) if tokens == "characters" else ""
        codec = text_codec(tokens, characters)
        parts, window = [codec.encode(content) for content in texts], Windows
        digest = hashlib.sha256("".join(texts).encode()).hexdigest()
        info = {"vocabulary": codec.vocabulary, "sha256": digest, **_known(tokens, characters, codec)}
    if not test:
        cut = int(len(parts[0]) * (1 - test_fraction))
        parts = [parts[0][:cut], parts[0][cut:]]
    train = window(parts[0], context, "part of the text to train on")
    tested = window(parts[1], context, "part of the text to test on") if test or test_fraction else None
    return Dataset(train, tested, {**info, "context": context})


class _Codec(NamedTuple):
    vocabulary: int
    encode: Callable[[str], np.ndarray]
    decode: Callable[[Sequence[int] | np.ndarray], str]


def text_codec(tokens: str, characters: str = "") -> _Codec:
    """How text becomes tokens and back, without the text that a model was trained on.

    Args:
        tokens: see :func:`text`.
        characters: those that there are, in the order of their code points, where they are the tokens.

    Raises:
        InputError: where the file of a tokenizer is missing, or its package.

    >>> codec = text_codec("characters", "abc")
    >>> codec.encode("cab").tolist(), codec.decode([0, 1])
    ([2, 0, 1], 'ab')
    """
    if tokens == "characters":
        return _characters(characters)
    if tokens == "bytes":
        return _Codec(
            256,
            lambda content: np.frombuffer(content.encode(), np.uint8),
            lambda ids: bytes(np.asarray(ids, np.uint8)).decode(errors="replace"),
        )
    return _tokenizer(tokens)


def _known(tokens: str, characters: str, codec: _Codec) -> dict[str, Any]:
    return {"tokens": tokens, "characters": characters, "encode": codec.encode, "decode": codec.decode}


def _characters_of(texts: Sequence[str]) -> str:
    """In the order of their code points. A table by code point is quicker than sorting the text."""
    there = np.zeros(0x110000, bool)
    for content in texts:
        there[_code_points(content)] = True
    return "".join(map(chr, np.flatnonzero(there)))


def _characters(known: str) -> _Codec:
    characters, unknown = _code_points(known), len(known)
    token_of = np.full(0x110000, unknown, np.min_scalar_type(unknown))
    token_of[characters] = np.arange(len(characters))
    dtype = np.min_scalar_type(max(unknown - 1, 0))

    def encode(content: str) -> np.ndarray:
        points = _code_points(content)
        ids = token_of[points]
        if len(missing := points[ids == unknown]):
            raise InputError(
                f"the character {chr(missing[0])!r} is not in the text that the tokens are of; leave it out, or "
                "train with data.tokens = 'bytes'"
            )
        return ids.astype(dtype)

    return _Codec(len(characters), encode, lambda ids: "".join(map(chr, characters[np.asarray(ids)])))


def _code_points(content: str) -> np.ndarray:
    return np.frombuffer(content.encode("utf-32-le"), "<u4")


def _tokenizer(path: str) -> _Codec:
    file = existing_file(path, "tokens")
    try:
        from tokenizers import Tokenizer  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(
            f"tokens = {path!r}: a tokenizer's file asks for tokenizers: pip install tokenizers; "
            "'characters' and 'bytes' do without"
        ) from None
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the package raises nothing narrower
        raise InputError(f"tokens = {path!r} is no file of tokenizers: {str(error).splitlines()[0]}") from None
    vocabulary = tokenizer.get_vocab_size()
    return _Codec(
        vocabulary,
        lambda content: np.array(
            tokenizer.encode(content, add_special_tokens=False).ids, np.min_scalar_type(vocabulary - 1)
        ),
        lambda ids: tokenizer.decode(np.asarray(ids).tolist(), skip_special_tokens=False),
    )


def _read(key: str, path: str) -> str:
    if path == "topics" and not Path(path).exists():
        from pydoc_data.topics import topics

        return "\n".join(topics[name] for name in sorted(topics))
    file = existing_file(path, key)
    with readable(file):
        return file.read_bytes().decode("utf-8")


def _mapped(key: str, path: str, dtype: str) -> np.ndarray:
    file = existing_file(path, key)
    with readable(file):
        if file.suffix == ".npy":
            tokens = np.load(file, mmap_mode="r", allow_pickle=False)
            if tokens.ndim != 1 or tokens.dtype.kind not in "iu" or not tokens.size:
                raise InputError(f"{path!r} holds {tokens.dtype} {tokens.shape}, and must hold integers (tokens,)")
            return tokens
        width = np.dtype(dtype).itemsize
        if file.stat().st_size % width:
            raise InputError(
                f"{path!r} has {file.stat().st_size} bytes, no multiple of the {width} of dtype = {dtype!r}; "
                "is it cut short?"
            )
        return np.memmap(file, dtype, "r")


def _vocabulary(parts: Sequence[np.ndarray], paths: Sequence[str], vocabulary: int) -> int:
    """How many tokens there are. All are looked at: a model would read one beyond them as another."""
    for tokens, path in zip(parts, paths):
        if tokens.min() < 0:
            raise InputError(f"{path!r} holds the token {tokens.min()}, and tokens count from 0")
        if vocabulary and tokens.max() >= vocabulary:
            raise InputError(
                f"{path!r} holds the token {tokens.max()}, and vocabulary = {vocabulary} has 0 to {vocabulary - 1}; "
                "is dtype right?"
            )
    return vocabulary or max(int(tokens.max()) for tokens in parts) + 1
