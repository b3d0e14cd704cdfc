"""Certificates that tests make for themselves."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


def write_pair(
    folder: Path,
    *names: str,
    begins: int = -10,
    days: int = 3,
    passphrase: bytes = b"",
    curve: ec.EllipticCurve | None = None,
) -> tuple[Path, Path]:
    """Write a certificate for `names` that vouches for itself, and its key; return both paths.

    It is valid from `begins` to `days` days from now.
    """
    key = ec.generate_private_key(curve or ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"test {secrets.token_hex(4)}")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=begins))
        .not_valid_after(now + timedelta(days=days))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(map(x509.DNSName, names))), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    folder.mkdir(exist_ok=True)
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return paths
