"""Makes a certificate for this machine's address, which no one else vouches for."""

import ipaddress
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from export.errors import UserError
from export.files import short

VALID = timedelta(days=2)
NAME = "PocketVLM"


@dataclass(frozen=True)
class Certificate:
    """Files of a certificate and its key in PEM, and the certificate's SHA-256 fingerprint."""

    file: Path
    key: Path
    fingerprint: str


@contextmanager
def own_certificate(address: str) -> Iterator[Certificate]:
    """Makes a new key and a certificate for an IP address; both are deleted in the end.

    Raises UserError if it is no IP address.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        parsed = ipaddress.ip_address(address)
    except ValueError as error:
        raise UserError(f"--tls needs an IP address; '{short(address)}' is none") from error
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    alternative = x509.SubjectAlternativeName([x509.IPAddress(parsed)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + VALID)
    made = builder.add_extension(alternative, critical=False).sign(key, hashes.SHA256())
    with tempfile.TemporaryDirectory() as folder:  # for this user alone
        pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        kind = serialization.PrivateFormat.PKCS8
        files = Path(folder) / "certificate.pem", Path(folder) / "key.pem"
        files[0].write_bytes(made.public_bytes(pem))
        files[1].write_bytes(key.private_bytes(pem, kind, plain))
        digest = made.fingerprint(hashes.SHA256()).hex(":").upper()
        yield Certificate(*files, digest)
