//! What the server does by itself with one row of a job, by `pgbench`: insert it, update or delete it by its key.

use anyhow::{Context, Result, ensure};
use std::fs;

use crate::server::postgres::Postgres;

const DATABASE: &str = "ceiling";
const TABLE: &str = "CREATE TABLE job (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, queue text NOT NULL, \
    kind text NOT NULL, payload jsonb NOT NULL, state text NOT NULL DEFAULT 'ready', attempt integer NOT NULL DEFAULT 0, \
    run_at timestamptz NOT NULL DEFAULT now(), done_at timestamptz)";
const PAYLOAD: &str =
    r#"{"path":"/srv/pictures/2026/11/26/DSC_0000001.JPG","width":320,"sent":1234567890123456}"#;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Statement {
    Insert,
    Update,
    Delete,
}

impl Statement {
    pub(crate) fn about(self) -> &'static str {
        match self {
            Statement::Insert => "insert a row",
            Statement::Update => "update a row by its key",
            Statement::Delete => "delete a row by its key",
        }
    }

    /// Each client takes the rows one after another, none twice: a row that is not there would cost no commit.
    fn script(self) -> String {
        match self {
            Statement::Insert => {
                format!("INSERT INTO job (queue, kind, payload) VALUES ('default', 'thumbnail', '{PAYLOAD}');\n")
            }
            Statement::Update => {
                "UPDATE job SET state = 'done', done_at = now() WHERE id = (SELECT nextval('next'));\n".to_owned()
            }
            Statement::Delete => "DELETE FROM job WHERE id = (SELECT nextval('next'));\n".to_owned(),
        }
    }
}

/// Rows a second, one row in each transaction.
pub(crate) fn rate(
    server: &Postgres,
    statement: Statement,
    clients: usize,
    rows: usize,
) -> Result<f64> {
    server.make_database(DATABASE, "template0")?;
    server.sql(DATABASE, TABLE)?;
    server.sql(DATABASE, "CREATE SEQUENCE next")?;
    let each = rows.div_ceil(clients);
    if statement != Statement::Insert {
        let fill = format!(
            "INSERT INTO job (queue, kind, payload) SELECT 'default', 'thumbnail', '{PAYLOAD}' FROM generate_series(1, {})",
            each * clients
        );
        server.sql(DATABASE, &fill)?;
    }
    server.settle(DATABASE)?;
    let script = std::env::temp_dir().join(format!("job-peers-{}.sql", std::process::id()));
    fs::write(&script, statement.script())?;
    let (clients, each) = (clients.to_string(), each.to_string());
    let path = script.display().to_string();
    let address = server.address(DATABASE);
    let args = [
        "-n", "-M", "prepared", "-c", &clients, "-j", &clients, "-t", &each, "-f", &path, &address,
    ];
    let output = server.succeed("pgbench", &args);
    fs::remove_file(&script)?;
    let output = String::from_utf8_lossy(&output?.stdout).into_owned();
    let rate = (output.lines())
        .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok())
        .with_context(|| format!("pgbench says: {output}"))?;
    if statement == Statement::Delete {
        let left = server.number(DATABASE, "SELECT count(*) FROM job")?;
        ensure!(left == 0.0, "{left} rows were not deleted");
    }
    Ok(rate)
}
