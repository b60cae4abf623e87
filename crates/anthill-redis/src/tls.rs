//! TLS by rustls, with the feature of that name: addresses `rediss:`. Without it such an address is refused.
//!
//! The certificate of a server has to be for the host of the address, and of an authority of the system's or of the file `cacert`.

use redis::{Client, ConnectionInfo, RedisError};

/// The options of TLS in an address: files in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsOptions {
    /// The authorities, in place of those of the system.
    pub(crate) cacert: Option<String>,
    /// The certificate of the client, and its key.
    pub(crate) cert: Option<String>,
    pub(crate) key: Option<String>,
}

/// How connections are encrypted.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Tls {
    cacert: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl Tls {
    /// Reads the files.
    pub(crate) fn of(options: &TlsOptions) -> Result<Tls, String> {
        if !cfg!(feature = "rustls") {
            let why = "it requires TLS, and this program was built without the feature `rustls` of anthill-redis";
            return Err(why.to_owned());
        }
        let read = |name: &str, file: &Option<String>| {
            let Some(file) = file else { return Ok(None) };
            let text = std::fs::read(file).map_err(|error| format!("{name} {file:?}: {error}"))?;
            Ok::<_, String>(Some(text))
        };
        let cacert = read("cacert", &options.cacert)?;
        let identity = match (read("cert", &options.cert)?, read("key", &options.key)?) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((cert, key)),
            _ => return Err("cert and key belong together".to_owned()),
        };
        Ok(Tls { cacert, identity })
    }

    #[cfg(feature = "rustls")]
    pub(crate) fn client(&self, info: ConnectionInfo) -> Result<Client, RedisError> {
        use rustls::crypto::{CryptoProvider, ring};
        // The client takes that of the process, and panics if it has to choose between several.
        if CryptoProvider::get_default().is_none() {
            // Another thread may be faster.
            let _ = ring::default_provider().install_default();
        }
        let client_tls = self.identity.clone();
        let client_tls = client_tls.map(|(client_cert, client_key)| redis::ClientTlsConfig {
            client_cert,
            client_key,
        });
        let root_cert = self.cacert.clone();
        Client::build_with_tls(
            info,
            redis::TlsCertificates {
                client_tls,
                root_cert,
            },
        )
    }

    #[cfg(not(feature = "rustls"))]
    #[expect(clippy::unused_self, reason = "it is called as the other one is")]
    pub(crate) fn client(&self, info: ConnectionInfo) -> Result<Client, RedisError> {
        Client::open(info)
    }
}
