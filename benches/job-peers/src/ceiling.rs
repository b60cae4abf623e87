//! What the server does by itself with one row of a job, by `pgbench`: insert it, update or delete it by its key.

use anyhow::{Context, Result, ensure};
use std::fs;

use crate::rows::{Row, Scale};
use crate::server::Server;

const DATABASE: &str = "ceiling";
const TABLE: &str = "CREATE TABLE job (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, queue text NOT NULL, \
    kind text NOT NULL, payload jsonb NOT NULL, state text NOT NULL DEFAULT 'ready', attempt integer NOT NULL DEFAULT 0, \
    run_at timestamptz NOT NULL DEFAULT now(), done_at timestamptz)";
const PAYLOAD: &str =
    r#"{"path":"/srv/pictures/2026/11/26/DSC_0000001.JPG","width":320,"sent":1234567890123456}"#;
pub(crate) const CLIENTS: &[usize] = &[1, 2, 8];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ceiling {
    Insert,
    Update,
    Delete,
}

pub(crate) const CEILINGS: &[Ceiling] = &[Ceiling::Insert, Ceiling::Update, Ceiling::Delete];

impl Ceiling {
    pub(crate) fn name(self, clients: usize) -> String {
        let what = match self {
            Ceiling::Insert => "insert a row",
            Ceiling::Update => "update a row by its key",
            Ceiling::Delete => "delete a row by its key",
        };
        let plural = if clients == 1 { "" } else { "s" };
        format!("{what}, {clients} client{plural}")
    }

    /// Each client takes the rows one after another, none twice: a row that is not there would cost no commit.
    fn script(self) -> String {
        match self {
            Ceiling::Insert => {
                format!("INSERT INTO job (queue, kind, payload) VALUES ('default', 'thumbnail', '{PAYLOAD}');\n")
            }
            Ceiling::Update => {
                "UPDATE job SET state = 'done', done_at = now() WHERE id = (SELECT nextval('next'));\n".to_owned()
            }
            Ceiling::Delete => "DELETE FROM job WHERE id = (SELECT nextval('next'));\n".to_owned(),
        }
    }
}

/// What is beside the engines in a row, in turn with them, since disks have moods: to enqueue is to insert a row; to run
/// is to update one, with as many clients as there are workers, and eight where the engine chooses.
pub(crate) fn of(row: Row) -> (Ceiling, usize) {
    match row {
        Row::Work(workers) => (Ceiling::Update, workers.or(8)),
        _ => (Ceiling::Insert, 1),
    }
}

/// Rows a second, one row in each transaction.
pub(crate) fn rate(server: &Server, ceiling: Ceiling, clients: usize, rows: usize) -> Result<f64> {
    server.make_database(DATABASE, "template0")?;
    server.sql(DATABASE, TABLE)?;
    server.sql(DATABASE, "CREATE SEQUENCE next")?;
    let each = rows.div_ceil(clients);
    if ceiling != Ceiling::Insert {
        let fill = format!(
            "INSERT INTO job (queue, kind, payload) SELECT 'default', 'thumbnail', '{PAYLOAD}' FROM generate_series(1, {})",
            each * clients
        );
        server.sql(DATABASE, &fill)?;
    }
    server.settle(DATABASE)?;
    let script = std::env::temp_dir().join(format!("job-peers-{}.sql", std::process::id()));
    fs::write(&script, ceiling.script())?;
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
    if ceiling == Ceiling::Delete {
        let left = server.number(DATABASE, "SELECT count(*) FROM job")?;
        ensure!(left == 0.0, "{left} rows were not deleted");
    }
    Ok(rate)
}

/// How many rows take about as long as a round is to take.
pub(crate) fn rows_for(
    server: &Server,
    ceiling: Ceiling,
    clients: usize,
    scale: &Scale,
) -> Result<usize> {
    let Some(seconds) = scale.seconds else {
        return Ok(40);
    };
    let rate = rate(server, ceiling, clients, 500)?;
    #[expect(clippy::cast_possible_truncation, reason = "it is clamped")]
    #[expect(clippy::cast_sign_loss, reason = "it is clamped")]
    Ok((rate * seconds).clamp(100.0, 500_000.0) as usize)
}
