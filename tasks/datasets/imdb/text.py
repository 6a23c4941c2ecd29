"""The one rule by which a review's text becomes words: training and the exported model both go by it.

It is that of Keras's `Tokenizer`, with which the published reviews were made: the letters A to Z are made small, filter
characters become spaces, words stand between spaces, and a word that is not in the word index is left out. `<br />` gives
the word `br`, and control characters such as U+0096 stay in their words, because the index has them too.

Characters that programs write in place of plain ones are read as the plain ones, which the tokenizer did not do: blanks
other than the space, dashes, quotes and dots are filtered, and a curly apostrophe is an apostrophe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tasks.datasets.imdb.ranks import Ranks
from tasks.datasets.tokens import RANK_OFFSET, REVIEW_TOKENS, START, UNKNOWN, VOCABULARY_SIZE

# What the Keras tokenizer filters: punctuation without the apostrophe, tab and newline.
_KERAS_FILTER = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'
_BLANKS = "\v\f\r\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015"
_QUOTES = "\u201c\u201d\u201e\u201f\u00ab\u00bb"
_DOTS = "\u2026"
SPACES = _KERAS_FILTER + _BLANKS + _DASHES + _QUOTES + _DOTS
"""The characters that part words."""
APOSTROPHES = "\u2018\u2019\u201b\u02bc"
"""The characters that are read as an apostrophe, which belongs to its word."""

_PLAIN = str.maketrans({**dict.fromkeys(SPACES, " "), **dict.fromkeys(APOSTROPHES, "'")})
_UPPER, _LOWER = (bytes(range(first, first + 26)) for first in b"Aa")
_SMALL = bytes.maketrans(
    _UPPER + SPACES.encode("ascii", "ignore"), _LOWER + b" " * sum(character.isascii() for character in SPACES)
)


def words_of(text: str) -> list[bytes]:
    """Return the words of a text in UTF-8, in order."""
    if not text.isascii():
        text = text.translate(_PLAIN)
    return text.encode().translate(_SMALL).split()


def rank_texts(texts: Sequence[str], *, words: Mapping[str, int]) -> Ranks:
    """Return the ranks of each text's words; a word without a rank is left out, as Keras left it out of its reviews."""
    return rank_words([words_of(text) for text in texts], ranks={word.encode(): rank for word, rank in words.items()})


def rank_words(texts: Iterable[Sequence[bytes]], *, ranks: Mapping[bytes, int]) -> Ranks:
    """Return the ranks of the words of each text, of which `words_of` made a list."""
    return Ranks.from_lists([[ranks[word] for word in words if word in ranks] for words in texts])


def encode_text(text: str, *, words: Mapping[str, int]) -> list[int]:
    """Return the tokens of a review in plain text: the reference that the exported model must agree with.

    Args:
        text: Any text.
        words: The whole word index: rank by word, 1 the most frequent. A word past the vocabulary is unknown, and one that is
            not in the index is left out.

    Returns:
        At most `REVIEW_TOKENS` tokens, the last ones; the start token is lost with what comes off in front. No padding.
    """
    ranks = rank_texts([text], words=words).flat.tolist()
    tokens = [rank + RANK_OFFSET if rank + RANK_OFFSET < VOCABULARY_SIZE else UNKNOWN for rank in ranks]
    return [START, *tokens][-REVIEW_TOKENS:]
