"""Certificates for proxies under test: a root, an issuer below it, and leaves with SPIFFE names."""

import datetime
import hashlib
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from policies import compiled as c

DAY = datetime.timedelta(days=1)


def pem_key(key: ec.EllipticCurvePrivateKey) -> str:
    """PKCS#8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def pem_cert(cert: x509.Certificate) -> str:
    return cert.public_bytes(serialization.Encoding.PEM).decode()


@dataclass(frozen=True)
class Leaf:
    """A certificate with its key; `chain` is PEM, leaf first."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    chain: str

    @property
    def key_pem(self) -> str:
        return pem_key(self.key)

    @property
    def serial(self) -> str:
        """As in `revocations/`: lower hex."""
        return f"{self.certificate.serial_number:x}"


@dataclass
class Authority:
    """A root of trust for one trust domain. Every test may have its own; keys are made once per authority."""

    trust_domain: str = "mesh.local"
    now: datetime.datetime = field(default_factory=lambda: datetime.datetime.now(datetime.UTC))

    def __post_init__(self) -> None:
        self.root_key = ec.generate_private_key(ec.SECP256R1())
        self.issuer_key = ec.generate_private_key(ec.SECP256R1())
        self.root = self._ca("root", self.root_key, "root", self.root_key, path_length=1)
        self.issuer = self._ca("issuer", self.issuer_key, "root", self.root_key, path_length=0)

    def _ca(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        issuer: str,
        issuer_key: ec.EllipticCurvePrivateKey,
        path_length: int,
    ) -> x509.Certificate:
        def named(n: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{self.trust_domain} {n}")])

        builder = (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now - DAY)
            .not_valid_after(self.now + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
            .add_extension(_key_usage(ca=True), critical=True)
        )
        return builder.sign(issuer_key, hashes.SHA256())

    def spiffe(self, instance: str) -> str:
        service, node, id_ = instance.split("/")
        return f"spiffe://{self.trust_domain}/svc/{service}/n/{node}/i/{id_}"

    def leaf(  # budget: one parameter for each way in which a leaf can be wrong
        self,
        uris: tuple[str, ...],
        *,
        not_before: datetime.datetime | None = None,
        not_after: datetime.datetime | None = None,
        extra_names: tuple[x509.GeneralName, ...] = (),
        usages: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH),
        ca: bool = False,
        common_name: str = "",
    ) -> Leaf:
        """A leaf with exactly these URI names: malformed ones too, for tests of what is refused."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(u) for u in uris]
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(subject))
            .issuer_name(self.issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before or self.now - DAY / 24)
            .not_valid_after(not_after or self.now + 7 * DAY)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(_key_usage(ca=ca), critical=True)
        )
        if names or extra_names:
            builder = builder.add_extension(x509.SubjectAlternativeName([*names, *extra_names]), critical=True)
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(list(usages)), critical=False)
        cert = builder.sign(self.issuer_key, hashes.SHA256())
        return Leaf(cert, key, pem_cert(cert) + pem_cert(self.issuer))

    def instance(self, name: str) -> Leaf:
        """The certificate of an instance `<service>/<node>/<id>`."""
        return self.leaf((self.spiffe(name),))

    def identity(self, name: str, leaf: Leaf | None = None) -> c.Identity:
        leaf = leaf or self.instance(name)
        return c.Identity(name=name, spiffe=self.spiffe(name), certificate=leaf.chain, private_key=leaf.key_pem)

    def trust(self, *revoked: c.Revoked, roots: tuple[str, ...] = ()) -> c.Trust:
        return c.Trust(
            name="trust", trust_domain=self.trust_domain, roots=roots or (pem_cert(self.root),), revoked=revoked
        )


def sni(spiffe: str) -> str:
    """The server name of an identity."""
    return f"i-{hashlib.sha256(spiffe.encode()).hexdigest()[:32]}.mesh"


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
