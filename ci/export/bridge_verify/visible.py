"""Names of others as a terminal shows them: what cannot be seen, or turns a line around, is a visible escape, as the command does."""

import sys
import unicodedata

HIDDEN = {"Cc", "Cf", "Zl", "Zp"}  # control, format, line and paragraph separators


def visible(text):
    """Line breaks and tabs stay."""
    return "".join(one if one in "\n\t" or unicodedata.category(one) not in HIDDEN | {"Cs"} else _escape(ord(one)) for one in str(text))


def _escape(point):
    if 0xDC80 <= point <= 0xDCFF:  # a byte that is not UTF-8
        point -= 0xDC00
        return f"\\x{point:02x}"
    return f"\\x{point:02x}" if point < 0x80 else f"\\u{{{point:x}}}"


def say(text, file=None):
    print(visible(text), file=file or sys.stdout)
