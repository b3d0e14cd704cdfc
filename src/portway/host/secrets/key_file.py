"""The file with the key that encrypts variables: found, made, refused, replaced (rekey).

It holds keys of 32 bytes in base64, one a line. The first encrypts, all decrypt. States:

    (none) → one    the first start, unless the store holds encrypted values already
    one → several   `add_key`, or an operator who cannot let the host write there: a new key, before the old one
    several → one   `drop_old_keys`, when every value is encrypted by the first
"""

import base64
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from portway.exceptions import SettingError
from portway.host.files import write_durably
from portway.host.paths import Paths
from portway.protocol.sealing import KEY_BYTES, Keys

_CREDENTIAL = "portway-key"
_LARGEST = 64 * 1024
_URL_SAFE = str.maketrans("+/", "-_")


class KeyFileError(Exception):
    """The key file cannot be used; the message is one sentence for the operator."""


@dataclass(frozen=True, slots=True)
class KeyFile:
    """The file at `path`."""

    path: Path

    def open(self, *, is_needed: bool) -> Keys:
        """Return its keys. The file is made if it is missing, unless something is encrypted by it (`is_needed`).

        Raises `KeyFileError`.
        """
        try:
            if not self.path.exists():
                if is_needed:
                    raise KeyFileError(
                        f"the key {self.path} of the apps' variables is missing: restore it from a copy, "
                        "or name its place with --key-file"
                    )
                write_durably(self.path, _new_key())
            return self.read()
        except OSError as error:
            raise KeyFileError(f"the key file {self.path} cannot be used: {error.strerror}") from None

    def read(self) -> Keys:
        """Return its keys. Raises `KeyFileError` or `OSError`."""
        with self.path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o007:
                raise KeyFileError(f"other users can read the key file {self.path}: chmod 600 {self.path}")
            text = file.read(_LARGEST).decode(errors="replace")
        try:
            return Keys.parse(",".join(text.split()).translate(_URL_SAFE))
        except SettingError:
            raise KeyFileError(
                f"{self.path} is not a key file: it holds {KEY_BYTES} random bytes in base64; restore it from a copy"
            ) from None

    def add_key(self) -> None:
        """Put a new key before the one that is there, unless there are several. Raises `OSError`."""
        if len(self._lines()) == 1:
            write_durably(self.path, _new_key() + self.path.read_bytes())

    def drop_old_keys(self) -> None:
        """Keep the first key only. Raises `OSError`."""
        if len(lines := self._lines()) > 1:
            write_durably(self.path, lines[0] + b"\n")

    def _lines(self) -> list[bytes]:
        return self.path.read_bytes().replace(b",", b" ").split()


def find_key_file(paths: Paths, given: str | None) -> Path:
    """Return the file `given`, else the systemd credential `portway-key`, else `key` in the data directory."""
    if given:
        return Path(given).absolute()
    if credentials := os.environ.get("CREDENTIALS_DIRECTORY"):
        credential = Path(credentials) / _CREDENTIAL
        if credential.exists():
            return credential
    return paths.key


def _new_key() -> bytes:
    return base64.b64encode(os.urandom(KEY_BYTES)) + b"\n"
