"""A certificate for Discord's names, for bots that find our endpoint under them.

It is signed by an authority that is made for it, and whose key is deleted at once: whoever trusts the
authority trusts this one certificate, and nobody can sign another.
"""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import tempfile
from pathlib import Path

NAMES = ("discord.com", "*.discord.com", "gateway.discord.gg", "*.discord.gg", "localhost")
URL = "https://discord.com"
"""The endpoint's address for such bots."""

AUTHORITY, BUNDLE = "authority.pem", "bundle.pem"
"""What Node adds to the authorities that it knows, and what everything else has in their place."""
_CERTIFICATE, _KEY = "endpoint.pem", "endpoint.key"
_DAYS = 365
_ONE_DAY = 24 * 3600
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
_EXTENSIONS = f"""\
subjectAltName={",".join(f"DNS:{name}" for name in NAMES)},IP:127.0.0.1
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=serverAuth
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
"""


class CertificateError(Exception):
    """There is no certificate; the text says why."""


def context(folder: Path) -> ssl.SSLContext:
    """Return how to serve with the certificate in `folder`, which is made there if missing or near its end.

    Raises `CertificateError`.
    """
    certificate, key = folder / _CERTIFICATE, folder / _KEY
    if not (certificate.exists() and key.exists() and _lasts(certificate)):
        _make(folder)
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        made.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise CertificateError(f"The certificate in {folder} can't be used: {error}.") from error
    return made


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as name:
            place = Path(name)
            _sign(place)
            _bundle(place)
            for file in (AUTHORITY, BUNDLE, _CERTIFICATE, _KEY):
                (place / file).replace(folder / file)
    except OSError as error:
        raise CertificateError(f"{folder} can't be written: {error.strerror}.") from error


def _sign(place: Path) -> None:
    authority_key, request, extensions = place / "authority.key", place / "request", place / "extensions"
    extensions.write_text(_EXTENSIONS)
    _openssl(
        *("req", "-x509", *_NEW_KEY, "-keyout", authority_key, "-out", place / AUTHORITY, "-days", _DAYS),
        *("-subj", "/CN=Sandbox endpoint (this certificate only)"),
        *("-addext", "keyUsage=critical,keyCertSign"),
    )
    subject = ("-subj", f"/CN={NAMES[0]}")
    _openssl("req", "-new", *_NEW_KEY, "-keyout", place / _KEY, "-out", request, *subject)
    _openssl(
        *("x509", "-req", "-in", request, "-CA", place / AUTHORITY, "-CAkey", authority_key),
        *("-CAcreateserial", "-days", _DAYS, "-extfile", extensions, "-out", place / _CERTIFICATE),
    )
    authority_key.unlink()
    os.chmod(place / _KEY, 0o600)  # noqa: PTH101


def _bundle(place: Path) -> None:
    """Write the system's authorities and ours: SSL_CERT_FILE takes the place of all others."""
    known: str | None = ssl.get_default_verify_paths().cafile
    others = "" if known is None else Path(known).read_text()
    (place / BUNDLE).write_text(others + (place / AUTHORITY).read_text())


def _lasts(certificate: Path) -> bool:
    try:
        _openssl("x509", "-in", certificate, "-noout", "-checkend", _ONE_DAY)
    except CertificateError:
        return False
    return True


def _openssl(*arguments: object) -> None:
    program = shutil.which("openssl")
    if program is None:
        raise CertificateError("There is no command `openssl`, which makes the certificate.")
    done = subprocess.run(  # noqa: S603 (a fixed command)
        [program, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it says nothing"]
        raise CertificateError(f"openssl could not make the certificate: {lines[-1]}.")
