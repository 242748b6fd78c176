"""A signing identity of one's own: made at the first signature, kept in the user's configuration, never shipped.

It proves that two files come from the same installation and that neither was changed since, not who that is: for a name
that others trust, set `AFFETTO_C2PA_CERT` and `AFFETTO_C2PA_KEY` to a certificate chain and key from a known authority.
"""

import contextlib
import datetime
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from affetto.runtime.errors import InvalidInputError, MissingResourceError, UsageError

_YEARS = 5


@dataclass(frozen=True, kw_only=True)
class SigningIdentity:
    """A certificate chain (PEM, the signer's first), its private key, and the authority to trust for it, if it is our own."""

    chain: str
    key: str
    authority: str | None


def config_folder() -> Path:
    """`$AFFETTO_HOME/identity`, else `identity` in the user's configuration folder for affetto."""
    home = os.environ.get("AFFETTO_HOME")
    if home:
        return Path(home) / "identity"
    return Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config")) / "affetto" / "identity"


def has_identity() -> bool:
    """Whether this user can sign without an identity being made first."""
    return bool(os.environ.get("AFFETTO_C2PA_CERT")) or (config_folder() / "chain.pem").is_file()


def signing_identity() -> SigningIdentity:
    """The identity of this user, made when there is none; raises when the one that was named cannot be read."""
    named = os.environ.get("AFFETTO_C2PA_CERT"), os.environ.get("AFFETTO_C2PA_KEY")
    if any(named):
        if not all(named):
            raise MissingResourceError(
                "signing needs both AFFETTO_C2PA_CERT and AFFETTO_C2PA_KEY: set the other one"
            )
        chain, key = (_read(Path(str(path))) for path in named)
        return SigningIdentity(chain=chain, key=key, authority=None)
    folder = config_folder()
    if not (folder / "chain.pem").is_file():
        _make(folder)
    return SigningIdentity(
        chain=_read(folder / "chain.pem"),
        key=_read(folder / "key.pem"),
        authority=_read(folder / "authority.pem"),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path}: cannot be read as PEM ({error}): check the file") from error


def _make(folder: Path) -> None:
    """An authority of one's own and a certificate for signing content (C2PA 2.1, section 14.5.1: ES256, EKU emailProtection)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now = datetime.datetime.now(datetime.UTC)

    def name(common: str) -> x509.Name:
        return x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "affetto user"),
                x509.NameAttribute(NameOID.COMMON_NAME, common),
            ]
        )

    def builder(
        subject: str, key: ec.EllipticCurvePrivateKey, issuer_key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        issuer_id = x509.SubjectKeyIdentifier.from_public_key(issuer_key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("local authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=365 * _YEARS))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id), critical=False
            )
        )

    def usage(*, signs_certificates: bool) -> x509.KeyUsage:
        return x509.KeyUsage(
            digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
            content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
            encipher_only=False, decipher_only=False,
        )  # fmt: skip

    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = (
        builder("local authority", authority_key, authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(signs_certificates=True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    leaf = (
        builder("local signer", key, authority_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    files = {
        "authority.pem": authority.public_bytes(pem),
        "key.pem": secret,
        "chain.pem": leaf.public_bytes(pem) + authority.public_bytes(pem),
    }
    # Whole or not at all: several processes may be at their first signature.
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = Path(tempfile.mkdtemp(dir=folder.parent))  # for this user alone
        for file, content in files.items():
            (made / file).write_bytes(content)
            (made / file).chmod(0o600)
        with contextlib.suppress(OSError):  # there is none, or it holds something
            folder.rmdir()
        try:
            made.rename(folder)
        except OSError:
            shutil.rmtree(made)
            if not (folder / "chain.pem").is_file():
                raise
    except OSError as error:
        raise UsageError(
            f"{folder}: no signing identity can be made there ({error.strerror}): set AFFETTO_HOME to a folder of yours,"
            " or AFFETTO_SIGN=never"
        ) from error
