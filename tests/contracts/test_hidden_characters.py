"""Characters that hide text are found, and those that a script or an emoji needs are not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.host.contracts.hidden_characters import character_name, hidden_characters
from portway.host.contracts.hidden_text import HiddenText, refuse_hidden_text

ZWSP, ZWNJ, ZWJ, LRM, RLM, ALM = "\u200b", "\u200c", "\u200d", "\u200e", "\u200f", "\u061c"
NEEDED = {
    "tab and newline": "a\tb\nc",
    "family": f"👨{ZWJ}👩{ZWJ}👧{ZWJ}👦",
    "rainbow flag": f"🏳\ufe0f{ZWJ}🌈",
    "profession with a skin tone": f"👩🏽{ZWJ}🚀",
    "heart": "❤\ufe0f",
    "heart on fire": f"❤\ufe0f{ZWJ}🔥",
    "man, by the male sign": f"🏃{ZWJ}♂\ufe0f",
    "head shaking": f"🙂{ZWJ}↔\ufe0f",
    "keycap": "1\ufe0f\u20e3",
    "text style": "☎\ufe0e",
    "country flag": "🇳🇴",
    "Persian": f"می{ZWNJ}خواهم",
    "Persian plural": f"کتاب{ZWNJ}ها",
    "Arabic letter in its initial form": f"ه{ZWJ}",
    "Syriac": f"ܫ{ZWNJ}ܠ",
    "Devanagari half form": f"क्{ZWJ}ष",
    "Devanagari explicit virama": f"क्{ZWNJ}ष",
    "Bengali": f"র{ZWJ}্য",
    "Malayalam chillu": f"ന്{ZWJ}",
    "Sinhala": f"ක්{ZWJ}ෂ",
    "Khmer words": f"ភាសា{ZWSP}ខ្មែរ",
    "Thai words": f"ภาษา{ZWSP}ไทย",
    "Hebrew": "שלום, עולם",
    "Arabic": "مرحبا 123",
    "Latin in Hebrew": f"אני אוהב C++{RLM} מאוד",
    "Arabic letter mark": f"السعر {ALM}5-3",
    "Mongolian": "ᠮᠣᠩᠭᠣᠯ\u180e\u1820\u180b",
    "ideographic variation": "葛\U000e0100",
    "mathematical variation": "∩\ufe00",
    "accents": "Ångström e\u0301",
    "no-break space": "10\u00a0km",
}
HIDING = {
    "Latin with ZWSP": (f"pass{ZWSP}word", "U+200B"),
    "Latin with ZWNJ": (f"pass{ZWNJ}word", "U+200C"),
    "Latin with ZWJ": (f"pass{ZWJ}word", "U+200D"),
    "ZWJ at the start": (f"{ZWJ}a", "U+200D"),
    "ZWSP at the end": (f"a{ZWSP}", "U+200B"),
    "ZWJ between digits": (f"1{ZWJ}2", "U+200D"),
    "two joiners in Persian": (f"می{ZWNJ}{ZWNJ}خواهم", "U+200C"),
    "joiners after an emoji": (f"👨{ZWJ}{ZWJ}👩", "U+200D"),
    "emoji joined to a letter": (f"👨{ZWJ}a", "U+200D"),
    "ZWSP in Cyrillic": (f"сло{ZWSP}во", "U+200B"),
    "right-to-left override": ("a\u202eb", "U+202E"),
    "embedding": ("a\u202ab\u202c", "U+202A"),
    "isolate in Hebrew": ("שלום\u2067עולם\u2069", "U+2067"),
    "mark in Latin": (f"a{RLM}b", "U+200F"),
    "Arabic letter mark in Latin": (f"a{ALM}b", "U+061C"),
    "mark in another line than Hebrew": (f"שלום\na{LRM}b", "U+200E"),
    "tags": ("a\U000e0041\U000e007f", "U+E0041"),
    "flag of England": ("🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "U+E0067"),
    "variation selectors as bytes": ("😀\U000e0151\U000e0152", "U+E0151"),
    "variation selector after Latin": ("a\ufe0f", "U+FE0F"),
    "variation selector after a digit": ("1\ufe0f2", "U+FE0F"),
    "two variation selectors": ("❤\ufe0f\ufe0f", "U+FE0F"),
    "ANSI colour": ("\x1b[31mred", "U+001B"),
    "C1 CSI": ("\x9b31m", "U+009B"),
    "carriage return": ("a\rb", "U+000D"),
    "NUL": ("a\0", "U+0000"),
    "DEL": ("a\x7f", "U+007F"),
    "soft hyphen": ("pass\u00adword", "U+00AD"),
    "byte order mark": ("\ufeffa", "U+FEFF"),
    "word joiner": ("a\u2060b", "U+2060"),
    "invisible plus": ("1\u2064", "U+2064"),
    "Hangul filler": ("a\u3164", "U+3164"),
    "combining grapheme joiner": ("a\u034f", "U+034F"),
}


@pytest.mark.parametrize("text", NEEDED.values(), ids=NEEDED.keys())
def test_a_character_that_a_script_or_an_emoji_needs_is_let_through(text: str) -> None:
    assert [character_name(each) for each in hidden_characters(text)] == []


@pytest.mark.parametrize(("text", "first"), HIDING.values(), ids=HIDING.keys())
def test_a_character_that_hides_text_is_found_and_named(text: str, first: str) -> None:
    found = [character_name(each) for each in hidden_characters(text)]
    assert found
    assert found[0].startswith(f"{first} ")


@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    for each in hidden_characters(text):
        assert each in text
        assert character_name(each).startswith("U+")


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_nothing_is_found_in_ascii(text: str) -> None:
    assert list(hidden_characters(text)) == []


def test_a_contract_full_of_hidden_characters_is_refused_with_the_first_of_them() -> None:
    era = {"server": {}, "instructions": "\u202e" * 2_000_000 + "\u2066", "tools": [], "resources": []}
    era |= {"resourceTemplates": [], "prompts": []}
    with pytest.raises(HiddenText) as refused:
        refuse_hidden_text(json.dumps({"modern": era, "legacy": era}).encode())
    assert str(refused.value).splitlines()[1:] == ["  server: instructions: U+202E RIGHT-TO-LEFT OVERRIDE"]
