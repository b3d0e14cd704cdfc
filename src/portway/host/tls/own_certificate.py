"""Reads and checks the operator's own certificate and key (`--cert`, `--key`) before Caddy gets them."""

import hmac
from datetime import UTC, datetime, timedelta
from pathlib import Path

from portway.host.files import read_start
from portway.host.tls.https_settings import HttpsError

_MOST_BYTES = 1_000_000
_CLOCK = timedelta(minutes=5)  # by which the clocks of an authority and of this machine may differ
_CURVES = ("secp256r1", "secp384r1", "secp521r1")


def secret_path(secret: bytes) -> str:
    """Return the path at which Caddy gets the key, which nobody without the host's secret can guess."""
    return hmac.digest(secret, b"own certificate", "sha256").hex()


def read_own_certificate(certificate: Path, key: Path, domain: str) -> bytes:
    """Return a certificate with its chain and its key, for Caddy to serve `domain` with.

    Raises `HttpsError` for a pair that it cannot serve.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    chain, secret = _read(certificate), _read(key)
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
        named = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        public = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except ValueError:
        raise HttpsError(f"{certificate} holds no certificate in PEM form") from None
    except x509.ExtensionNotFound:
        raise HttpsError(f"the certificate {certificate} has no alternative names, which clients need") from None
    try:
        private = load_pem_private_key(secret, None).public_key()
    except (TypeError, ValueError):
        raise HttpsError(f"{key} holds no private key in PEM form without a passphrase") from None
    if private.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != public:
        raise HttpsError(f"the key {key} does not belong to the certificate {certificate}")
    if leaf.not_valid_after_utc < datetime.now(UTC):
        raise HttpsError(f"the certificate {certificate} has expired on {leaf.not_valid_after_utc:%Y-%m-%d}: renew it")
    if leaf.not_valid_before_utc > datetime.now(UTC) + _CLOCK:
        raise HttpsError(
            f"the certificate {certificate} is valid from {leaf.not_valid_before_utc:%Y-%m-%d} on: "
            "give one that is valid now, or set the clock"
        )
    names = [name.lower() for name in named.get_values_for_type(x509.DNSName)]
    if domain not in names and f"*.{domain.partition('.')[2]}" not in names:
        raise HttpsError(
            f"the certificate {certificate} is for {', '.join(names) or 'no name'}, not for {domain}: give a name that "
            "it is for as --domain, or another certificate"
        )
    if isinstance(private, EllipticCurvePublicKey) and private.curve.name not in _CURVES:
        raise HttpsError(f"the key {key} is on the curve {private.curve.name}, which clients do not know")
    return chain + b"\n" + secret


def require_certificate(path: Path) -> None:
    """Raise `HttpsError` unless a file holds a certificate."""
    from cryptography import x509

    try:
        x509.load_pem_x509_certificates(_read(path))
    except ValueError:
        raise HttpsError(f"{path} holds no certificate in PEM form") from None


def _read(path: Path) -> bytes:
    try:
        return read_start(path, _MOST_BYTES)
    except OSError as error:
        raise HttpsError(f"cannot read {path}: {error.strerror}") from None
