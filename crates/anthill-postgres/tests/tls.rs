//! TLS to a server with certificates of its own, by each `sslmode`.
#![cfg(feature = "rustls")]

mod support;

use anthill_jobs::{Broker, QueueError};
use anthill_postgres::PostgresBroker;
use anthill_test_support::missing::Missing;
use anthill_test_support::postgres::{Fsync, Server};
use anthill_test_support::{eventually, run_to_end, skip_unless, watchdog};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use support::{client, enqueue, job};
use tempfile::TempDir;

/// A server that speaks TLS as `localhost`, by a certificate that an authority has signed.
struct Secure {
    server: Server,
    folder: TempDir,
}

impl Secure {
    fn start() -> Result<Secure, Missing> {
        let server = Server::start(Fsync::Off)?;
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        openssl(
            at,
            "req -x509 -newkey rsa:2048 -nodes -days 9999 -subj /CN=authority -keyout ca.key -out ca.pem",
        );
        openssl(
            at,
            "req -x509 -newkey rsa:2048 -nodes -days 9999 -subj /CN=other -keyout other.key -out other.pem",
        );
        openssl(
            at,
            "req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr",
        );
        std::fs::write(at.join("names"), "subjectAltName=DNS:localhost\n").expect("it is written");
        openssl(
            at,
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 9999 -extfile names -out server.pem",
        );
        openssl(
            at,
            "req -x509 -newkey rsa:2048 -nodes -days 9999 -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout own.key -out own.pem",
        );
        let secure = Secure { server, folder };
        secure.present("server");
        Ok(secure)
    }

    /// Makes the server show this certificate.
    fn present(&self, name: &str) {
        let write = |text: &str, file: &str| {
            // In a statement of one line; `%b` makes lines of it.
            let text = text.replace('\n', "\\n");
            let program = format!("cat >/dev/null; umask 077; printf %b \"{text}\" >{file}");
            self.sql(&format!("COPY (SELECT 1) TO PROGRAM '{program}'"));
        };
        for (end, file) in [("pem", "server.crt"), ("key", "server.key")] {
            let made = self.folder.path().join(format!("{name}.{end}"));
            let made = std::fs::read_to_string(made).expect("openssl made it");
            write(&made, file);
        }
        write(
            "local all all trust\nhostssl all all all scram-sha-256\nhost all all all password\n",
            "pg_hba.conf",
        );
        self.sql("ALTER SYSTEM SET ssl = on");
        self.server.restart();
    }

    fn sql(&self, statement: &str) -> String {
        self.server.sql("postgres", statement).expect("it is run")
    }

    /// An address of a host and port, with options.
    fn address(&self, host: &str, options: &str) -> String {
        let (password, port) = (self.server.password(), self.server.address().port());
        let folder = self.folder.path().display();
        let options = options.replace("FOLDER", &folder.to_string());
        format!("postgres://postgres:{password}@{host}:{port}/postgres?{options}")
    }
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

/// Whether the connections of a broker at that address are encrypted, or what it says.
fn encrypts(address: &str) -> Result<bool, QueueError> {
    let broker = PostgresBroker::open(address)?;
    enqueue(&broker, &[job("here")]);
    let mut looks = client(&address[..address.find('?').expect("it has options")]);
    let rows = looks
        .query(
            "SELECT s.ssl FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)
             WHERE a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()",
            &[],
        )
        .expect("it is told");
    let mut encrypted: Vec<bool> = rows.iter().map(|row| row.get(0)).collect();
    encrypted.dedup();
    assert_eq!(encrypted.len(), 1, "those of the broker: {encrypted:?}");
    drop(broker);
    Ok(encrypted[0])
}

#[test]
fn each_mode_encrypts_and_believes_as_it_says() {
    let secure = skip_unless!(Secure::start());
    watchdog("modes of TLS", move || {
        let believed = [
            ("localhost", "sslmode=disable", false),
            ("localhost", "", true),
            ("localhost", "sslmode=prefer", true),
            ("localhost", "sslmode=require", true),
            (
                "127.0.0.1",
                "sslmode=require&sslrootcert=FOLDER/ca.pem",
                true,
            ),
            (
                "127.0.0.1",
                "sslmode=verify-ca&sslrootcert=FOLDER/ca.pem",
                true,
            ),
            (
                "localhost",
                "sslmode=verify-full&sslrootcert=FOLDER/ca.pem",
                true,
            ),
            // The password is bound to the certificate, so nobody in between can use it.
            ("localhost", "sslmode=require&channel_binding=require", true),
        ];
        for (host, options, encrypted) in believed {
            let address = secure.address(host, options);
            match encrypts(&address) {
                Ok(found) => assert_eq!(found, encrypted, "{host} {options}"),
                Err(error) => panic!("{host} {options}: {error:?}"),
            }
        }
        let refused = [
            ("localhost", "sslmode=disable&channel_binding=require", ""),
            ("localhost", "sslrootcert=FOLDER/other.pem", "UnknownIssuer"),
            (
                "localhost",
                "sslmode=require&sslrootcert=FOLDER/other.pem",
                "UnknownIssuer",
            ),
            (
                "localhost",
                "sslmode=verify-ca&sslrootcert=FOLDER/other.pem",
                "UnknownIssuer",
            ),
            (
                "localhost",
                "sslmode=verify-full&sslrootcert=FOLDER/other.pem",
                "UnknownIssuer",
            ),
            (
                "127.0.0.1",
                "sslmode=verify-full&sslrootcert=FOLDER/ca.pem",
                "not valid for name",
            ),
            // Of the system's authorities nobody knows this one.
            ("localhost", "sslmode=verify-full", ""),
            ("localhost", "sslmode=verify-ca", ""),
            ("localhost", "sslrootcert=system", ""),
            ("localhost", "sslrootcert=FOLDER/none.pem", "none.pem"),
            ("localhost", "sslrootcert=FOLDER/ca.key", "no certificate"),
        ];
        for (host, options, why) in refused {
            let address = secure.address(host, options);
            let error = format!("{:?}", encrypts(&address).expect_err(options));
            assert!(error.contains(why), "{host} {options}: {error}");
            assert!(!error.contains(secure.server.password()), "{error}");
        }

        // One that nobody signed, and that is known.
        secure.present("own");
        for (host, options, is_believed) in [
            (
                "127.0.0.1",
                "sslmode=verify-ca&sslrootcert=FOLDER/own.pem",
                true,
            ),
            (
                "localhost",
                "sslmode=verify-full&sslrootcert=FOLDER/own.pem",
                true,
            ),
            (
                "127.0.0.1",
                "sslmode=verify-full&sslrootcert=FOLDER/own.pem",
                false,
            ),
            (
                "localhost",
                "sslmode=verify-full&sslrootcert=FOLDER/ca.pem",
                false,
            ),
        ] {
            let found = encrypts(&secure.address(host, options));
            assert_eq!(found.is_ok(), is_believed, "{host} {options}: {found:?}");
        }

        secure.sql("ALTER SYSTEM SET ssl = off");
        secure.server.restart();
        assert!(!encrypts(&secure.address("localhost", "sslmode=prefer")).expect("it connects"));
        let error = encrypts(&secure.address("localhost", "sslmode=require"));
        let error = format!("{:?}", error.expect_err("the server does not"));
        assert!(error.contains("TLS"), "{error}");
    });
}

#[test]
fn a_call_that_is_given_up_is_ended_at_the_server_over_tls() {
    let secure = skip_unless!(Secure::start());
    watchdog("a call over TLS", move || {
        let address = secure.address("localhost", "sslmode=require");
        let broker = PostgresBroker::builder(&address)
            .timeout(Duration::from_secs(2))
            .open()
            .expect("it opens");
        let mut holds = client(&secure.address("localhost", "sslmode=disable"));
        let mut held = holds.transaction().expect("it begins");
        held.batch_execute("LOCK TABLE anthill.jobs IN ACCESS EXCLUSIVE MODE")
            .expect("nobody has it");
        assert!(broker.enqueue(&[job("waits")]).is_err());
        eventually("the server has ended the call", || {
            secure.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
                == "0"
        });
        held.rollback().expect("it ends");
        enqueue(&broker, &[job("goes on")]);
    });
}
