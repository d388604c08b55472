"""Text that every terminal can show, whatever its encoding."""

from __future__ import annotations

import codecs
import sys
import unicodedata

_PLAIN = str.maketrans({"\xb5": "u", "\u03bc": "u", "\xd7": "x", "\u2013": "-", "\u2014": "-", "\u2212": "-"})


def make_safe() -> None:
    """Let the standard streams write what their encoding lacks in plain letters: Å as A, not as an error."""
    codecs.register_error("cryovox.plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="cryovox.plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_PLAIN)
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return plain or "?" * (error.end - error.start), error.end
