"""The words of a text, as ``re.findall`` finds them, in a quarter of its time.

::

    words_in("naïve — it_is!")        ["naïve", "it", "is"]         r"[^\\W_]+"
    words_in("naïve — it_is!", "_")   ["naïve", "it_is"]            r"\\w+"
"""

from __future__ import annotations

import re
from functools import lru_cache

_OTHER_MARK = re.compile(r"[^\w\x00-\x7f]")
"""A character that is neither ASCII nor part of a word."""


def words_in(text: str, also: str = "") -> list[str]:
    """The longest runs of letters and digits, and of the ASCII characters in `also`."""
    # Bytes are translated by a table, characters one by one; those of other characters stay as they are.
    spaced = text.encode(errors="surrogatepass").translate(_spaces(also)).decode(errors="surrogatepass")
    return (spaced if spaced.isascii() else _OTHER_MARK.sub(" ", spaced)).split()


@lru_cache(maxsize=8)
def _spaces(also: str) -> bytes:
    return bytes(i if i >= 128 or chr(i).isalnum() or chr(i) in also else ord(" ") for i in range(256))
