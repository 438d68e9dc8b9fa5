"""Texts as streams of tokens: one's own files, by words or characters.

A batch has rows that go through a text side by side: each reads a window of consecutive tokens in
a step, and the next window in the next step. So a network can carry its state from one step to
the next; ``'reset'`` says where a row begins anew.
"""

import collections
import dataclasses
import functools
import itertools
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dnas import checks
from dnas.data.content import hashed
from dnas.data.feeds import Batch, Feed, Read
from dnas.tasks.augment import NOTHING
from dnas.tasks.language import LanguageModelling

LEVELS = ("character", "word")
UNKNOWN, END = "<unk>", "<eos>"  # a symbol that is not in the vocabulary; the end of a line
_MOST_BYTES = 2**30
_MOST_SYMBOLS = 1_000_000


@dataclasses.dataclass(frozen=True, eq=False)
class Tokens:
    """A piece of a text.

    Attributes:
      tokens: int32 ``[N]``.
      length: tokens of a window.
    """

    tokens: np.ndarray
    length: int

    def __len__(self) -> int:
        """The number of windows, wherever among its first `length` tokens the first one begins."""
        return max(0, len(self.tokens) // self.length - 1)

    def __repr__(self) -> str:
        return f"Tokens({len(self.tokens):,})"

    def limited(self, count: int, seed: int) -> "Tokens":
        """The first so many windows."""
        del seed  # windows are not torn out of the text
        return Tokens(self.tokens[: (count + 1) * self.length], self.length)

    def describe(self) -> dict[str, Any]:
        """What tells the piece from others, as plain data."""
        digest = hashed([self.tokens.astype("<i4").tobytes()])
        return {"tokens": len(self.tokens), "content": digest, "covers": "all tokens"}


@dataclasses.dataclass(frozen=True, eq=False)
class Text:
    """A text for training, one for testing, and maybe one for validation.

    Attributes:
      name: of the set.
      train: what search and training may use.
      test: what only the final evaluation of a trained network may use.
      symbols: the vocabulary, by the numbers of tokens.
      level: what a token is, ``'character'`` or ``'word'``.
      temporal_regularization: of the task, see `dnas.tasks.LanguageModelling`.
      valid: what a training looks at after each epoch, if its recipe asks for it; or None.
    """

    name: str
    train: Tokens
    test: Tokens
    symbols: tuple[str, ...]
    level: str
    temporal_regularization: float = 0.0
    valid: Tokens | None = None

    def __repr__(self) -> str:
        return f"Text({self.summary})"

    @property
    def summary(self) -> str:
        """The set in a line."""
        train, test = (f"{len(part.tokens):,}" for part in (self.train, self.test))
        return (
            f"{self.name}, {train} train and {test} test {self.level}s, {len(self.symbols):,} "
            f"different ones, windows of {self.train.length}"
        )

    def task(self, augment: Any = None, *, measured: bool = True) -> LanguageModelling:
        """To predict every token from those before; a text is never augmented."""
        if augment not in (None, NOTHING):
            raise ValueError(f"augment={checks.shown(augment)}: expected none, since this is text")
        del measured
        return LanguageModelling(
            len(self.symbols),
            self.train.length,
            self.level,
            self.temporal_regularization,
            self.symbols,
        )

    def check(self) -> None:
        """Raises ValueError where a network could not learn from the train text."""
        if len(np.unique(self.train.tokens)) < 2:
            raise ValueError(f"{self.name!r}: the train text is one {self.level} over and over")

    def describe(self) -> dict[str, Any]:
        """What tells the set from others, as plain data."""
        return {
            "name": self.name,
            "level": self.level,
            "vocabulary": len(self.symbols),
            "symbols": hashed(s.encode() + b"\0" for s in self.symbols),
            "bptt": self.train.length,
            "temporal_regularization": self.temporal_regularization,
            "train": self.train.describe(),
            "test": self.test.describe(),
            "valid": None if self.valid is None else self.valid.describe(),
        }

    def halves(self, seed: int) -> tuple[Tokens, Tokens]:
        """The first half of the train text for the weights, the second for the architecture."""
        del seed  # a text is not shuffled
        cut = len(self.train.tokens) // 2
        return (
            Tokens(self.train.tokens[:cut], self.train.length),
            Tokens(self.train.tokens[cut:], self.train.length),
        )

    def feed(self, parts: Sequence[Tokens], batch_size: int, key: jax.Array) -> "TextFeed":
        """See `TextFeed`."""
        return TextFeed(parts, batch_size, key)

    def evaluation_batches(
        self, split: Tokens, batch_size: int
    ) -> Iterator[tuple[Batch, jax.Array]]:
        """All of a text once; see `evaluation_windows`."""
        weights = jnp.ones(batch_size)
        for batch in evaluation_windows(split, batch_size):
            yield jax.device_put(batch), weights


class TextFeed(Feed):
    """Windows of texts, one after the other.

    In every epoch the rows of a batch begin at equal distances. The first row begins at one of the
    first `length` tokens, drawn for each epoch, so that windows are cut at other places. Which
    tokens a step sees is a pure function of the key and the step's number.
    """

    def __init__(self, parts: Sequence[Tokens], batch_size: int, key: jax.Array):
        super().__init__(parts, batch_size, key)
        self._tokens = [jax.device_put(part.tokens.astype(np.int32)) for part in parts]

    def validation(self, examples: int | None = None) -> list[Batch]:
        """Windows of the second part, one after the other from its beginning.

        Args:
          examples: so many at most, but one batch at least; by default all.
        """
        windows = evaluation_windows(self.parts[1], self.batch_size)
        count = None if examples is None else self._whole_batches(examples)
        return [jax.device_put(batch) for batch in itertools.islice(windows, count)]

    def _rows(self, part: int, start: int, stop: int) -> np.ndarray:
        """Where windows begin, and whether a row of them does, int32 ``[steps, batch, 2]``."""
        text = self.parts[part]
        per_epoch = len(text) // self.batch_size
        rows = np.empty((stop - start, self.batch_size, 2), np.int32)
        columns = np.arange(self.batch_size, dtype=np.int32) * per_epoch
        for i, step in enumerate(range(start, stop)):
            epoch, place = divmod(step, per_epoch)
            rows[i, :, 0] = self._offset(part, epoch) + (columns + place) * text.length
            rows[i, :, 1] = place == 0
        return rows

    def _offset(self, part: int, epoch: int) -> int:
        """Where the first row begins in an epoch; the latest is kept."""
        known = self._orders.get(part, None)
        if known is not None and known[0] == epoch:
            return int(known[1])
        key = jax.random.fold_in(jax.random.fold_in(self._key, part), epoch)
        found = np.asarray(jax.random.randint(key, (), 0, self.parts[part].length))
        self._orders[part] = (epoch, found)
        return int(found)

    def _read(self, rows: tuple[np.ndarray, ...], size: int) -> Read:
        for first in range(0, len(rows[0]), size):
            some = (r[first : first + size] for r in rows)
            filled = (np.concatenate([r, np.repeat(r[-1:], size - len(r), axis=0)]) for r in some)
            yield tuple(
                _windows(tokens, r, part.length)
                for tokens, r, part in zip(self._tokens, filled, self.parts, strict=True)
            )


@functools.partial(jax.jit, static_argnames="length")
def _windows(tokens: jax.Array, rows: jax.Array, length: int) -> Batch:
    """Tokens and targets ``[steps, batch, length]`` at these places of a text."""
    places = rows[..., :1] + jnp.arange(length)
    return {
        "tokens": tokens.at[places].get(mode="promise_in_bounds"),
        "targets": tokens.at[places + 1].get(mode="promise_in_bounds"),
        "reset": rows[..., 1].astype(bool),
    }


def evaluation_windows(text: Tokens, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """All of a text in rows of equal length, so that every token but the first is a target once.

    Args:
      text: the text.
      batch_size: number of rows; each begins without knowing the row before.

    Yields:
      ``tokens`` and ``targets``, int32 ``[batch, length]``, and ``reset``, bool ``[batch]``.
      Targets are -1 where there are none.
    """
    checks.whole("batch_size", batch_size)
    last = len(text.tokens) - 1  # number of targets
    per_row = -(-last // batch_size)
    ends = np.minimum((np.arange(batch_size) + 1) * per_row, last)[:, None]
    starts = np.arange(batch_size) * per_row
    for first in range(0, per_row, text.length):
        places = starts[:, None] + first + np.arange(text.length)
        real = places < ends
        places = np.where(real, places, 0)
        yield {
            "tokens": text.tokens[places].astype(np.int32),
            "targets": np.where(real, text.tokens[places + 1], -1).astype(np.int32),
            "reset": np.full(batch_size, first == 0),
        }


def from_text(
    path: str | os.PathLike,
    level: str = "word",
    *,
    bptt: int = 35,
    vocabulary: int | None = None,
    test_share: float = 0.1,
    valid_share: float = 0.0,
    temporal_regularization: float = 0.0,
) -> Text:
    """A data set of one's own text files.

    Args:
      path: a folder with ``train.txt``, ``test.txt`` and maybe ``valid.txt``; or one file, of which
        the end is the test text, and what is before it the validation text. Files are UTF-8.
      level: ``'word'`` splits lines at white space, and ends each of them by ``'<eos>'``;
        ``'character'`` takes every character, line breaks too.
      bptt: tokens of a window, over which gradients go back.
      vocabulary: keep so many symbols at most, the most frequent of the train text. All others are
        ``'<unk>'``, which is one of them. By default all that the train text has.
      test_share: of the tokens of a single file.
      valid_share: share of a single file that is the validation text; 0 for none.
      temporal_regularization: of the task, see `dnas.tasks.LanguageModelling`.

    Returns:
      The data set. Symbols that only the test text has are ``'<unk>'``.

    Raises:
      ValueError: an argument is out of its range, or a file is none, too long, or too short.
    """
    if level not in LEVELS:
        raise ValueError(f"level={checks.shown(level)}: expected one of {LEVELS}")
    checks.whole("bptt", bptt, least=2)
    checks.not_negative("temporal_regularization", temporal_regularization)
    if vocabulary is not None:
        checks.whole("vocabulary", vocabulary, 2, _MOST_SYMBOLS)
    if not checks.is_fraction(test_share) or not test_share:
        raise ValueError(f"test_share={checks.shown(test_share)}: expected above 0 and below 1")
    if not checks.is_fraction(valid_share) or test_share + valid_share >= 1:
        raise ValueError(
            f"valid_share={checks.shown(valid_share)}: expected from 0, and below 1 with test_share"
        )
    place = pathlib.Path(path)
    parts = _parts(place, level, test_share, valid_share)
    symbols = count_symbols(parts["train"], vocabulary)
    numbers = {symbol: number for number, symbol in enumerate(symbols)}
    unknown = numbers[UNKNOWN]
    pieces = {
        name: Tokens(
            np.fromiter((numbers.get(s, unknown) for s in part), np.int32, len(part)), bptt
        )
        for name, part in parts.items()
    }
    for name, piece in pieces.items():
        if len(piece) < 2:
            raise ValueError(
                f"path={checks.shown(str(path))}: the {name} text has {len(piece.tokens)} {level}s;"
                f" expected {3 * bptt} at least, three windows of bptt={bptt}"
            )
    return Text(
        name=place.stem or "text",
        train=pieces["train"],
        test=pieces["test"],
        symbols=symbols,
        level=level,
        temporal_regularization=temporal_regularization,
        valid=pieces.get("valid"),
    )


def _parts(
    place: pathlib.Path, level: str, test_share: float, valid_share: float
) -> dict[str, list[str]]:
    """The tokens of the texts, by name."""
    if place.is_dir():
        names = ["train", "test", *(["valid"] if (place / "valid.txt").exists() else [])]
        return {name: split(_read(place / f"{name}.txt"), level) for name in names}
    whole = split(_read(place), level)
    test = len(whole) - round(test_share * len(whole))
    valid = test - round(valid_share * len(whole))
    parts = {"train": whole[:valid], "valid": whole[valid:test], "test": whole[test:]}
    return {name: part for name, part in parts.items() if name != "valid" or valid_share}


def split(text: str, level: str) -> list[str]:
    """The tokens of a text, see `from_text`."""
    if level == "character":
        return list(text)
    lines = text.removesuffix("\n").split("\n")
    return [token for line in lines for token in (*line.split(), END)]


def count_symbols(tokens: Iterable[str], most: int | None = None) -> tuple[str, ...]:
    """The symbols of a vocabulary, the most frequent first; ``'<unk>'`` is among them.

    Args:
      tokens: of the train text.
      most: how many; None for all.
    """
    counts = collections.Counter(tokens)
    # Equally frequent symbols come in the order of their letters, not in that of the text.
    ranked = sorted(counts, key=lambda symbol: (-counts[symbol], symbol))
    if UNKNOWN not in counts or UNKNOWN not in ranked[:most]:
        ranked = [*[s for s in ranked if s != UNKNOWN][: None if most is None else most - 1]]
        ranked.append(UNKNOWN)
    return tuple(ranked[:most])


def _read(path: pathlib.Path) -> str:
    if not path.is_file():
        raise ValueError(
            f"path={checks.shown(str(path))}: there is no such file; expected a text file, or a "
            "folder with train.txt and test.txt"
        )
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"path={checks.shown(str(path))}: expected at most {_MOST_BYTES:,} bytes")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"path={checks.shown(str(path))}: no UTF-8 text: {error}") from error
