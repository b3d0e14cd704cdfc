"""Which characters hide text from people (bidirectional, invisible, tags, control), and where a script needs them.

Refused everywhere: control characters but tab and newline (with ESC and CSI, which begin the escape sequences of
terminals), bidirectional embeddings, overrides and isolates, tag characters, and characters that are invisible by
design. Others belong to a script or to emoji, and are refused anywhere else:

    ZWJ, ZWNJ                   beside a letter of a joining script (Arabic, Syriac, …), after one of an Indic script;
                                ZWJ also between two emoji
    zero width space            between letters of a script without spaces (Thai, Lao, Khmer, Myanmar, …)
    LRM, RLM, ALM               in a line with a right-to-left letter
    variation selectors         after what they vary: an emoji, a symbol, a letter of East Asia or of Mongolian

No two of them may follow each other, but for a variation selector and the ZWJ of an emoji.
"""

import functools
import re
import unicodedata
from collections.abc import Iterator

_BIDI = "\u202a-\u202e\u2066-\u2069"
_TAGS = "\U000e0000-\U000e007f"
_VARIATION = "\ufe00-\ufe0f\U000e0100-\U000e01ef\u180b-\u180f"
_MARKS = "\u200e\u200f\u061c"
_JOINERS = "\u200c\u200d"
_INVISIBLE = (
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u2060-\u2065\u206a-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0080-\U000e00ff\U000e01f0-\U000e0fff"
)
_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff"
_SUSPECT = re.compile(f"[{_CONTROLS}{_BIDI}{_TAGS}{_VARIATION}{_MARKS}{_JOINERS}{_INVISIBLE}\u200b]")
_HIDDEN = re.compile(f"[{_VARIATION}{_MARKS}{_JOINERS}\u200b]")
_JOINING = re.compile(  # Arabic, Syriac, Mandaic, Mongolian, Phags-pa, Manichaean, Adlam
    "[\u0600-\u08ff\u1800-\u18af\ua840-\ua87f\ufb50-\ufdff\ufe70-\ufefc\U00010ac0-\U00010aff\U0001e900-\U0001e95f]"
)
_INDIC = re.compile(  # Devanagari to Sinhala, Tibetan, Myanmar, Khmer and their relatives
    "[\u0900-\u0dff\u0f00-\u109f\u1700-\u17ff\u1a20-\u1cff\ua800-\ua8ff\ua930-\ua9ff\uaa00-\uaadf\uabc0-\uabff"
    "\U00011000-\U00011fff]"
)
_WITHOUT_SPACES = re.compile(  # Thai, Lao, Tibetan, Myanmar, Khmer, Tai, Balinese, Javanese
    "[\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u1b00-\u1b7f\ua980-\ua9df\ua9e0-\ua9ff\uaa60-\uaa7f]"
)
_EAST_ASIAN = re.compile("[\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]")
_MONGOLIAN = re.compile("[\u1800-\u18af]")
_EMOJI = re.compile(
    "[#*0-9\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u2460-\u24ff\u25a0-\u27bf\u2900-\u297f"
    "\u2b00-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
)
_NAMES = {"\x1b": "ANSI escape", "\x9b": "ANSI escape"}
_LINE = 200  # characters looked at on either side


def hidden_characters(text: str) -> Iterator[str]:
    """Yield each character of `text` that hides something, in its order."""
    return (text[at] for at in hidden_places(text))


def hidden_places(text: str) -> Iterator[int]:
    """Yield the index of each character of `text` that hides something."""
    return (at for match in _SUSPECT.finditer(text) if not _is_needed(text, at := match.start()))


def character_name(character: str) -> str:
    """Return the code point of a character and its name, as in "U+202E RIGHT-TO-LEFT OVERRIDE"."""
    name = _NAMES.get(character) or unicodedata.name(character, "")
    if not name:
        name = "control character" if unicodedata.category(character) == "Cc" else "unassigned or without a name"
    return f"U+{ord(character):04X} {name}"


def _is_needed(text: str, at: int) -> bool:
    """Return whether the script or the emoji around a suspect character needs it."""
    character, before, after = text[at], text[at - 1 : at] if at else "", text[at + 1 : at + 2]
    if not _HIDDEN.match(character):
        return False
    if _HIDDEN.match(before) and not (character == "\u200d" and before == "\ufe0f"):
        return False
    if character in _JOINERS:
        return _is_joined(character, text, at)
    if character == "\u200b":
        return bool(_WITHOUT_SPACES.match(before) and _WITHOUT_SPACES.match(after))
    if character in _MARKS:
        return _is_right_to_left(text, at)
    if character in "\ufe0e\ufe0f":
        is_keycap = not before.isascii() or after == "\u20e3"
        return bool((_EMOJI.match(before) and is_keycap) or _EAST_ASIAN.match(before))
    if "\u180b" <= character <= "\u180f":
        return bool(_MONGOLIAN.match(before))
    if character >= "\U000e0100":
        return bool(_EAST_ASIAN.match(before))
    return bool(_EAST_ASIAN.match(before) or unicodedata.category(before or " ") == "Sm" or _INDIC.match(before))


def _is_joined(character: str, text: str, at: int) -> bool:
    before, after = text[at - 1 : at] if at else "", text[at + 1 : at + 2]
    if _JOINING.match(before) or _JOINING.match(after) or _INDIC.match(before):
        return True
    if character != "\u200d":
        return False
    if before == "\ufe0f":
        before = text[at - 2 : at - 1] if at > 1 else ""
    return bool(_EMOJI.match(before) and not before.isascii() and _EMOJI.match(after) and not after.isascii())


def _is_right_to_left(text: str, at: int) -> bool:
    """Return whether the line around a place has a letter that is written from right to left."""
    before = text[max(0, at - _LINE) : at].rpartition("\n")[2]
    line = before + text[at : at + _LINE].partition("\n")[0]
    return _right_to_left().search(line) is not None


@functools.cache
def _right_to_left() -> re.Pattern[str]:
    """Return a pattern of the letters that are written from right to left, which are in these blocks."""
    blocks = (range(0x590, 0x900), range(0xFB1D, 0xFF00), range(0x10800, 0x11000), range(0x1E800, 0x1F000))
    letters = [chr(code) for block in blocks for code in block if chr(code) not in _MARKS]
    return re.compile(f"[{''.join(each for each in letters if unicodedata.bidirectional(each) in ('R', 'AL'))}]")
