"""A certificate for localhost, and the authority that signed it, made for one test."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


def certificates(directory: Path) -> Path:
    """Make the files ``key`` and ``cert``, for localhost; returns the one of who signed them."""
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority of the test's own")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)

    def signed(subject: x509.Name, public: Any, *extensions: tuple[Any, bool]) -> bytes:
        made = x509.CertificateBuilder(name, subject, public, x509.random_serial_number())
        made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(
            now + timedelta(days=1)
        )
        # Newer versions of Python demand that each names its own key and the one that signed it.
        known = (
            x509.SubjectKeyIdentifier.from_public_key(public),
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
        )
        for extension, critical in (*extensions, *((each, False) for each in known)):
            made = made.add_extension(extension, critical)
        return made.sign(authority_key, hashes.SHA256()).public_bytes(Encoding.PEM)

    authority = directory / "authority"
    ca = (x509.BasicConstraints(ca=True, path_length=None), True)
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    authority.write_bytes(signed(name, authority_key.public_key(), ca, (usage, True)))
    alternative = (x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
    (directory / "cert").write_bytes(signed(subject, key.public_key(), alternative))
    (directory / "key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return authority
