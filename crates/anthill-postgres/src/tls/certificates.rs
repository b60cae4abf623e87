//! What the certificate of a server is checked for, as libpq does by `sslmode` and `sslrootcert`:
//!
//! - CE1. Without `sslrootcert`, `prefer` and `require` check nothing: they keep out who listens, but not who pretends to be the
//!   server.
//! - CE2. With it, these check that an authority of the file has signed it, as `verify-ca` does. `verify-full` also checks
//!   that it is for the host of the address.
//! - CE3. `verify-ca` and `verify-full` without a file, and `sslrootcert=system`, take the authorities of the system; these sign for
//!   anybody, so the name is always checked.
//! - CE4. A certificate that is in the file itself needs no authority.

use crate::address::{TlsOptions, Verify};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, crypto::ring,
};
use std::sync::Arc;
use tokio_postgres_rustls::MakeRustlsConnect;

/// The authorities of the system, instead of a file.
const SYSTEM: &str = "system";

/// How a client connects with these options, or why it cannot.
pub(super) fn client(options: &TlsOptions) -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier {
        roots: Roots::of(options)?,
        algorithms: provider.signature_verification_algorithms,
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// Whom to believe.
#[derive(Debug)]
struct Roots {
    authorities: RootCertStore,
    /// CE4.
    themselves: Vec<CertificateDer<'static>>,
    has_name: bool,
}

impl Roots {
    /// None, if anybody is believed.
    fn of(options: &TlsOptions) -> Result<Option<Roots>, String> {
        let file = options.root_file.as_deref();
        let roots = match file {
            None if options.verify == Verify::Default => return Ok(None),
            None | Some(SYSTEM) => Roots::of_system()?,
            Some(file) => Roots::of_file(file, options.verify == Verify::Full)?,
        };
        Ok(Some(roots))
    }

    fn of_file(file: &str, has_name: bool) -> Result<Roots, String> {
        let unread = |error: &dyn std::fmt::Display| format!("sslrootcert {file:?}: {error}");
        let found = CertificateDer::pem_file_iter(file).map_err(|error| unread(&error))?;
        let themselves: Vec<_> = found
            .collect::<Result<_, _>>()
            .map_err(|error| unread(&error))?;
        if themselves.is_empty() {
            return Err(unread(&"it has no certificate in PEM"));
        }
        let mut authorities = RootCertStore::empty();
        // One that cannot be an authority may be the server's own.
        authorities.add_parsable_certificates(themselves.iter().cloned());
        Ok(Roots {
            authorities,
            themselves,
            has_name,
        })
    }

    fn of_system() -> Result<Roots, String> {
        let found = rustls_native_certs::load_native_certs();
        let mut authorities = RootCertStore::empty();
        authorities.add_parsable_certificates(found.certs);
        if authorities.is_empty() {
            let why = found.errors.first().map(ToString::to_string);
            let why = why.unwrap_or_default();
            return Err(format!(
                "the system has no certificates of authorities: {why}"
            ));
        }
        Ok(Roots {
            authorities,
            themselves: Vec::new(),
            has_name: true,
        })
    }
}

#[derive(Debug)]
struct Verifier {
    /// None, if anybody is believed.
    roots: Option<Roots>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(roots) = &self.roots else {
            return Ok(ServerCertVerified::assertion());
        };
        let parsed = ParsedCertificate::try_from(certificate)?;
        if !roots.themselves.contains(certificate) {
            let (roots, algorithms) = (&roots.authorities, self.algorithms.all);
            verify_server_cert_signed_by_trust_anchor(&parsed, roots, between, now, algorithms)?;
        }
        if roots.has_name {
            verify_server_name(&parsed, name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
