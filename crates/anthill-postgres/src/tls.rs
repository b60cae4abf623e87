//! TLS by rustls, with the feature of that name; without it, connections are not encrypted, and an address that requires that
//! is refused.

use crate::address::Address;
use anthill_jobs::QueueError;
use tokio_postgres::config::SslMode;

/// How connections are encrypted.
#[derive(Clone)]
pub(crate) enum Tls {
    None,
}

impl Tls {
    pub(crate) fn of(address: &Address) -> Result<Tls, QueueError> {
        if address.config.get_ssl_mode() == SslMode::Require {
            return Err(QueueError::Address {
                address: address.shown.clone(),
                reason: "it requires TLS, and this program was built without the feature `rustls` of anthill-postgres"
                    .to_owned(),
            });
        }
        Ok(Tls::None)
    }
}
