//! A page with a table of what each broker can do, written from the code. A broker's crate sees to its own column and leaves
//! the others, which belong to crates that it does not know.

use crate::broker::{Capabilities, Capability, Durability};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

/// Rewrites a page that is stale, if it is set.
const REWRITE: &str = "ANTHILL_WRITE_PAGES";

/// The rows that are no capabilities, before those that are.
const PROPERTIES: [&str; 6] = [
    "a job survives",
    "jobs in one call",
    "data of a job",
    "a lease",
    "a delay",
    "a claim waits",
];

/// Returns a table in Markdown of what brokers can do: a row for each capability, a column for each broker.
///
/// ```
/// use anthill_jobs::conformance::capability_table;
/// use anthill_jobs::{Capabilities, Capability, Durability};
///
/// let postcard = Capabilities::new("postcard", Durability::Process).with(&[Capability::Delay]);
/// let table = capability_table(&[postcard]);
/// assert!(table.starts_with("| | postcard |\n|---|---|\n| a job survives | the death of any process |\n"));
/// assert!(table.contains("\n| delays | yes |\n| an expiry | – |\n"));
/// ```
pub fn capability_table(brokers: &[Capabilities]) -> String {
    let columns = brokers.iter().map(Column::of);
    write(&columns.collect::<Vec<_>>())
}

/// Returns a page with the columns of these brokers renewed in its table, or added to it; all else is as it was. A row that
/// another broker's column has not is "–" there.
pub fn update_capability_table(page: &str, brokers: &[Capabilities]) -> String {
    let is_table = |line: &&str| line.starts_with('|');
    let before = page.lines().take_while(|line| !is_table(line));
    let table = page.lines().skip_while(|line| !is_table(line));
    let table: Vec<&str> = table.take_while(is_table).collect();
    let head = before.clone().count();
    let after = page.lines().skip(head + table.len());
    let mut columns = read(&table);
    for column in brokers.iter().map(Column::of) {
        match columns.iter_mut().find(|other| other.name == column.name) {
            Some(other) => *other = column,
            None => columns.push(column),
        }
    }
    let mut text = String::new();
    for line in before {
        let _ = writeln!(text, "{line}");
    }
    text += &write(&columns);
    for line in after {
        let _ = writeln!(text, "{line}");
    }
    text
}

/// Sees that a page has what [`update_capability_table`] makes of it: for a test of a broker's crate. With
/// `ANTHILL_WRITE_PAGES=1` it rewrites the page.
///
/// # Panics
///
/// If the page is stale, or cannot be read or written.
pub fn check_capability_page(path: impl AsRef<Path>, brokers: &[Capabilities]) {
    let path = path.as_ref();
    let page = std::fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()));
    let updated = update_capability_table(&page, brokers);
    if page == updated {
        return;
    }
    if std::env::var_os(REWRITE).is_some() {
        let written = std::fs::write(path, updated);
        written.unwrap_or_else(|error| panic!("{} cannot be written: {error}", path.display()));
        return;
    }
    panic!(
        "{} is stale: run this test with {REWRITE}=1, which makes it\n{updated}",
        path.display()
    );
}

/// What one broker can do, by row.
struct Column {
    name: String,
    rows: Vec<(String, String)>,
}

impl Column {
    fn of(broker: &Capabilities) -> Column {
        let maxima = broker.maxima;
        let most = |number: usize| match number {
            usize::MAX => "no limit".to_owned(),
            number => number.to_string(),
        };
        let values = [
            survives(broker.durability).to_owned(),
            most(maxima.batch),
            match maxima.payload {
                usize::MAX => most(usize::MAX),
                bytes => format!("{bytes} bytes"),
            },
            longest(maxima.lease),
            longest(maxima.delay),
            if maxima.wait.is_zero() {
                "–".to_owned()
            } else {
                longest(maxima.wait)
            },
        ];
        let properties = PROPERTIES.iter().zip(values);
        let properties = properties.map(|(row, value)| ((*row).to_owned(), value));
        let has = |&one: &Capability| {
            let value = if broker.has(one) { "yes" } else { "–" };
            (one.what().to_owned(), value.to_owned())
        };
        Column {
            name: broker.name.to_owned(),
            rows: properties.chain(Capability::ALL.iter().map(has)).collect(),
        }
    }

    fn value(&self, row: &str) -> &str {
        let found = self.rows.iter().find(|(name, _)| name == row);
        found.map_or("–", |(_, value)| value)
    }
}

fn survives(durability: Durability) -> &'static str {
    match durability {
        Durability::None => "nothing",
        Durability::Eventual => "any death, after some seconds",
        Durability::Process => "the death of any process",
        Durability::Fsync => "a loss of power",
        Durability::Replicated => "the loss of a disk",
    }
}

fn longest(time: Duration) -> String {
    match time {
        Duration::MAX => "no limit".to_owned(),
        time => format!("{time:?}"),
    }
}

fn write(columns: &[Column]) -> String {
    let mut text = String::from("| |");
    for column in columns {
        let _ = write!(text, " {} |", column.name);
    }
    text += "\n|---|";
    text += &"---|".repeat(columns.len());
    text.push('\n');
    let capabilities = Capability::ALL.iter().map(|one| one.what());
    for row in PROPERTIES.into_iter().chain(capabilities) {
        let _ = write!(text, "| {row} |");
        for column in columns {
            let _ = write!(text, " {} |", column.value(row));
        }
        text.push('\n');
    }
    text
}

/// The columns of a table as it was written.
fn read(table: &[&str]) -> Vec<Column> {
    let cells = |line: &str| -> Vec<String> {
        let line = line.trim_matches('|');
        line.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let Some(head) = table.first() else {
        return Vec::new();
    };
    let rows: Vec<Vec<String>> = table.iter().skip(2).map(|line| cells(line)).collect();
    let column = |(at, name): (usize, String)| Column {
        name,
        rows: rows
            .iter()
            .filter_map(|row| Some((row.first()?.clone(), row.get(at)?.clone())))
            .collect(),
    };
    let names = cells(head).into_iter().enumerate().skip(1);
    names.map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brokers() -> [Capabilities; 2] {
        let mut far = Capabilities::new("far", Durability::Replicated).with(&[Capability::Shared]);
        far.maxima.batch = 10;
        far.maxima.payload = 262_144;
        far.maxima.delay = Duration::from_secs(900);
        far.maxima.wait = Duration::from_secs(20);
        [Capabilities::full("near", Durability::None), far]
    }

    #[test]
    fn a_column_is_renewed_and_the_others_stay() {
        let [near, far] = brokers();
        let page = format!(
            "# Head\n\ntext\n\n{}\nfoot\n",
            capability_table(&[near, far])
        );
        assert_eq!(update_capability_table(&page, &[]), page);
        assert_eq!(update_capability_table(&page, &[far]), page);
        let better = far.with(&[Capability::Priority]);
        let updated = update_capability_table(&page, &[better]);
        let both = capability_table(&[near, better]);
        assert_eq!(updated, format!("# Head\n\ntext\n\n{both}\nfoot\n"));
        let third = Capabilities::new("third", Durability::Process);
        let updated = update_capability_table(&page, &[third]);
        assert!(updated.contains(&capability_table(&[near, far, third])));
    }

    /// One that a newer version knows.
    #[test]
    fn a_row_that_was_not_there_is_no_capability_of_the_others() {
        let [near, far] = brokers();
        let page = capability_table(&[near, far]);
        let older = page.lines().filter(|line| !line.contains("priorities"));
        let older: Vec<&str> = older.collect();
        let updated = update_capability_table(&older.join("\n"), &[near]);
        assert!(
            updated.contains("\n| priorities | yes | – |\n"),
            "{updated}"
        );
        assert_eq!(updated, page);
    }
}
