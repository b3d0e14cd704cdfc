"""Sealed and encrypted values: which keys and purposes open them, and how keys are written."""

import base64

import pytest

from portway.exceptions import SettingError
from portway.protocol.sealing import Keys

KEY, OTHER = (base64.urlsafe_b64encode(key).decode() for key in (bytes(range(32)), b"\xff" * 32))
SEALED = "kyJRwihdI7DarrJ4IhyOHm08aCR9epd1cHCXaJAqqY5hZGE"
ENCRYPTED = "AAECAwQFBgcICQoLd_0moUPzsWRbKlxZ7F8JSjv0zg"


def test_values_of_an_earlier_release_are_read_by_this_one() -> None:
    keys = Keys.parse(KEY)
    assert keys.seal(b"session", b"ada") == SEALED
    assert keys.unseal(b"session", SEALED) == b"ada"
    assert keys.decrypt(b"request state", ENCRYPTED) == b"ada"


def test_a_value_is_opened_for_its_purpose_by_any_of_the_keys_and_by_no_other() -> None:
    old, new, both = Keys.parse(OTHER), Keys.parse(KEY), Keys.parse(f"{KEY},{OTHER}")
    for make, open_ in ((Keys.seal, Keys.unseal), (Keys.encrypt, Keys.decrypt)):
        value = make(old, b"one", b"payload")
        assert [open_(keys, b"one", value) for keys in (old, both, new)] == [b"payload", b"payload", None]
        assert [open_(keys, purpose, value) for keys in (old, both) for purpose in (b"other", b"")] == [None] * 4
        assert open_(new, b"one", make(both, b"one", b"payload")) == b"payload", "the first key seals"
        assert open_(old, b"one", make(old, b"one", b"")) == b""


@pytest.mark.parametrize(
    "spelling", [f"{SEALED[:-1]}F", f"{SEALED}=", f"{SEALED}\n", f" {SEALED}", f"{SEALED}A", SEALED[:42], "é", ""]
)
def test_a_value_has_one_spelling(spelling: str) -> None:
    assert Keys.parse(KEY).unseal(b"session", spelling) is None
    assert Keys.parse(KEY).decrypt(b"session", spelling) is None


def test_the_base64_of_a_value_is_the_url_safe_one() -> None:
    keys = Keys.parse(KEY)
    values = [keys.seal(b"session", bytes([255, 254, number])) for number in range(64)]
    assert {keys.unseal(b"session", value.replace("-", "+").replace("_", "/")) for value in values} == {None}


def test_keys_may_have_padding_and_spaces_and_only_given_ones_are_shared() -> None:
    keys = Keys.parse(f" {KEY} , {OTHER.rstrip('=')}\n")
    assert (keys.unseal(b"session", SEALED), keys.shared, Keys.random().shared) == (b"ada", True, False)
    assert Keys.random().unseal(b"session", Keys.random().seal(b"session", b"ada")) is None


@pytest.mark.parametrize("entry", ["", "planted", KEY[:-3], f"AAAA{KEY}", OTHER.replace("_", "/"), "é" * 43])
def test_a_key_that_is_not_32_bytes_of_base64url_is_refused_by_its_number_and_not_shown(entry: str) -> None:
    with pytest.raises(SettingError, match=r"^PORTWAY_KEYS: key 2 is not 32 bytes in base64url") as refused:
        Keys.parse(f"{KEY},{entry}")
    assert not entry or entry not in str(refused.value)
