//! TLS to the database: whose certificates are believed, and what of them is verified.

use crate::dsn::{Roots, Verify};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::Arc;
use tokio_postgres_rustls::MakeRustlsConnect;

/// `sslmode` says whether TLS is used. Where it is, the certificate is always verified.
pub fn connector(verify: Verify, roots: Roots, database_ca: Option<&Path>) -> Result<MakeRustlsConnect, String> {
    let store = Arc::new(match (roots, database_ca) {
        (Roots::Unsaid | Roots::System, None) => system(),
        (Roots::Unsaid, Some(path)) => file("--database-ca", path)?,
        (Roots::File(path), None) => file("sslrootcert of --database-url", &path)?,
        (_, Some(_)) => return Err("--database-ca and sslrootcert of --database-url say the same: give one of them".into()),
    });
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone());
    let config = config.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let config = match verify {
        Verify::Full => config.with_root_certificates(store),
        Verify::Authority => config.dangerous().with_custom_certificate_verifier(Arc::new(AuthorityOnly::new(store, provider)?)),
    };
    Ok(MakeRustlsConnect::new(config.with_no_client_auth()))
}

fn system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn file(option: &str, path: &Path) -> Result<RootCertStore, String> {
    let wrong = |what: String| format!("{option} {}: {what}", path.display());
    let bytes = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let found: Result<Vec<_>, _> = rustls_pemfile::certs(&mut bytes.as_slice()).collect();
    let mut roots = RootCertStore::empty();
    for certificate in found.map_err(|error| wrong(error.to_string()))? {
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() { Err(wrong("no certificate in it".into())) } else { Ok(roots) }
}

/// `sslmode=verify-ca`: the certificate has to be signed by one of the authorities, for whatever
/// host.
#[derive(Debug)]
struct AuthorityOnly {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    signatures: Arc<WebPkiServerVerifier>,
}

impl AuthorityOnly {
    fn new(roots: Arc<RootCertStore>, provider: Arc<CryptoProvider>) -> Result<AuthorityOnly, String> {
        let signatures = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone());
        let signatures = signatures.build().map_err(|error| error.to_string())?;
        Ok(AuthorityOnly { roots, provider, signatures })
    }
}

impl ServerCertVerifier for AuthorityOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.supported_verify_schemes()
    }
}
