//! TLS by rustls, with the feature of that name; without it, connections are not encrypted, and an address that requires that
//! is refused.

#[cfg(feature = "rustls")]
mod certificates;

use crate::address::Address;
use anthill_jobs::QueueError;
use tokio_postgres::config::SslMode;

/// How connections are encrypted.
#[derive(Clone)]
pub(crate) enum Tls {
    None,
    #[cfg(feature = "rustls")]
    Rustls(tokio_postgres_rustls::MakeRustlsConnect),
}

impl Tls {
    pub(crate) fn of(address: &Address) -> Result<Tls, QueueError> {
        if address.config.get_ssl_mode() == SslMode::Disable {
            return Ok(Tls::None);
        }
        #[cfg(feature = "rustls")]
        let tls = certificates::client(&address.tls).map(Tls::Rustls);
        #[cfg(not(feature = "rustls"))]
        let tls = if address.config.get_ssl_mode() == SslMode::Require
            || address.tls.root_file.is_some()
        {
            let why = "it requires TLS, and this program was built without the feature `rustls` of anthill-postgres";
            Err(why.to_owned())
        } else {
            Ok(Tls::None)
        };
        tls.map_err(|reason| QueueError::Address {
            address: address.shown.clone(),
            reason,
        })
    }
}
