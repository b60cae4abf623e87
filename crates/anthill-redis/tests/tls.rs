//! TLS to a server with certificates of its own.
#![cfg(feature = "rustls")]

mod common;

use anthill_jobs::{Broker, QueueError};
use anthill_redis::RedisBroker;
use anthill_test_support::missing::Missing;
use anthill_test_support::redis::{Options, Persistence, Server, Tls};
use anthill_test_support::{run_to_end, skip_unless};
use common::{GRACE, LEASE, builder, claim, ear, enqueue, finish, fresh, hears, job, open};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A server that speaks TLS as `localhost`, by a certificate that an authority has signed.
struct Secure {
    server: Server,
    folder: TempDir,
}

fn openssl(at: &Path, args: &str) {
    let output = run_to_end(
        Command::new("openssl")
            .args(args.split(' '))
            .current_dir(at),
        Duration::from_secs(60),
    );
    assert!(output.success, "openssl {args}: {}", output.text);
}

impl Secure {
    fn start(wants_client: bool) -> Result<Secure, Missing> {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        for name in ["ca", "other"] {
            openssl(
                at,
                &format!(
                    "req -x509 -newkey rsa:2048 -nodes -days 9999 -subj /CN={name} -keyout {name}.key -out {name}.pem"
                ),
            );
        }
        std::fs::write(at.join("names"), "subjectAltName=DNS:localhost\n").expect("it is written");
        for (name, authority) in [("server", "ca"), ("client", "ca"), ("stranger", "other")] {
            openssl(
                at,
                &format!(
                    "req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout {name}.key -out {name}.csr"
                ),
            );
            openssl(
                at,
                &format!(
                    "x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -CAcreateserial -days 9999 -extfile names -out {name}.pem"
                ),
            );
        }
        let tls = Tls {
            certificate: at.join("server.pem"),
            key: at.join("server.key"),
            clients: wants_client.then(|| at.join("ca.pem")),
        };
        let server = Options::new(Persistence::Off).tls(tls).start()?;
        Ok(Secure { server, folder })
    }

    /// The address of a host, with options.
    fn address(&self, host: &str, options: &str) -> String {
        let password = self.server.password().expect("it has one");
        let port = self.server.tls_address().port();
        let folder = self.folder.path().display().to_string();
        let options = options.replace("FOLDER", &folder);
        format!("rediss://:{password}@{host}:{port}/?{options}")
    }
}

#[track_caller]
fn is_refused(address: &str, why: &str) {
    let begin = Instant::now();
    let opened = RedisBroker::builder(address)
        .alone()
        .timeout(Duration::from_secs(5))
        .open();
    let error = opened.expect_err(address);
    assert!(
        matches!(
            error,
            QueueError::Unavailable(_) | QueueError::Address { .. }
        ),
        "{error:?}"
    );
    let said = format!("{error:?}");
    assert!(said.contains(why), "{address}: {said}");
    assert!(
        begin.elapsed() < Duration::from_secs(5) + GRACE,
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn only_who_is_of_the_authority_and_has_the_name_is_believed() {
    let secure = skip_unless!(Secure::start(false));
    let (address, queue) = (secure.address("localhost", "cacert=FOLDER/ca.pem"), fresh());
    let broker = open(&address, &queue);
    enqueue(&broker, &[job("secret")]);
    let claimed = claim(&broker, 1);
    let other = open(&address, &queue);
    assert_eq!(finish(&other, &claimed), 1);
    // Messages come by TLS, too.
    let (heard, _subscription) = ear(&broker, LEASE);
    hears(&heard, || {
        enqueue(&other, &[job("heard")]);
    });
    let plain = open(&secure.server.url(), &queue);
    assert_eq!(plain.identity(), broker.identity());
    is_refused(
        &secure.address("localhost", "cacert=FOLDER/other.pem"),
        "UnknownIssuer",
    );
    // Of the system's authorities nobody knows this one.
    is_refused(&secure.address("localhost", ""), "");
    is_refused(
        &secure.address("127.0.0.1", "cacert=FOLDER/ca.pem"),
        "not valid for name",
    );
    is_refused(
        &secure.address("localhost", "cacert=FOLDER/none.pem"),
        "none.pem",
    );
    is_refused(&secure.address("localhost", "cacert=FOLDER/ca.key"), "");
    // A port that does not speak it, and the other way round.
    let password = secure.server.password().expect("it has one");
    let plain = secure.server.port();
    let wrong = format!("rediss://:{password}@localhost:{plain}/?cacert=FOLDER/ca.pem");
    is_refused(
        &wrong.replace("FOLDER", &secure.folder.path().display().to_string()),
        "",
    );
    let port = secure.server.tls_address().port();
    is_refused(&format!("redis://:{password}@localhost:{port}/"), "");
}

#[test]
fn a_client_shows_its_certificate_where_it_is_asked_for_one() {
    let secure = skip_unless!(Secure::start(true));
    let queue = fresh();
    let with = |name: &str| {
        let options = format!("cacert=FOLDER/ca.pem&cert=FOLDER/{name}.pem&key=FOLDER/{name}.key");
        secure.address("localhost", &options)
    };
    let broker = builder(&with("client"), &queue)
        .open()
        .expect("it is known");
    enqueue(&broker, &[job("a")]);
    assert_eq!(claim(&broker, 1).len(), 1);
    is_refused(&secure.address("localhost", "cacert=FOLDER/ca.pem"), "");
    is_refused(&with("stranger"), "");
    let alone = "cacert=FOLDER/ca.pem&cert=FOLDER/client.pem";
    is_refused(&secure.address("localhost", alone), "belong together");
}
