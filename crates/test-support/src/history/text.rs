//! An event as a line of text: `at by verb name=value …`, spaces and the like in values as `%` and two digits.

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter, Write};
use std::str::FromStr;
use std::{error, fmt};

use super::{Accepted, Event, Fault, Left, Outcome, Started, Stored, What};

/// A line that is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAnEvent {
    line: String,
    why: String,
}

impl Display for NotAnEvent {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        write!(to, "{}: {:?}", self.why, self.line)
    }
}

impl error::Error for NotAnEvent {}

/// Values that are words.
macro_rules! words {
    ($($type:ty { $($value:ident: $word:literal),* })*) => { $(
        impl Display for $type {
            fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
                to.write_str(match self { $(Self::$value => $word),* })
            }
        }

        impl FromStr for $type {
            type Err = ();

            fn from_str(word: &str) -> Result<Self, ()> {
                match word { $($word => Ok(Self::$value),)* _ => Err(()) }
            }
        }
    )* };
}

words! {
    Accepted { Yes: "yes", No: "no", Unknown: "unknown" }
    Outcome { Done: "done", Retry: "retry", Dead: "dead", HandedBack: "handed-back" }
    Stored { Yes: "yes", Lost: "lost", Unknown: "unknown" }
    Fault { Killed: "killed", Frozen: "frozen", CutOff: "cut-off" }
    Left { Done: "done", Dead: "dead", Waiting: "waiting" }
}

fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && !matches!(byte, b'%' | b'=') {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02x}");
        }
    }
    // So that no word of a line is empty.
    if escaped.is_empty() {
        escaped.push('%');
    }
    escaped
}

fn unescape(word: &str) -> Option<String> {
    if word == "%" {
        return Some(String::new());
    }
    let mut bytes = Vec::new();
    let mut rest = word.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(others.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &others[2..];
        } else {
            bytes.push(*first);
            rest = others;
        }
    }
    String::from_utf8(bytes).ok()
}

impl Display for Event {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        write!(to, "{} {} ", self.at, escape(&self.by))?;
        let of_claim = |to: &mut Formatter<'_>, verb: &str, job: &str, token: &str| {
            write!(to, "{verb} job={} token={}", escape(job), escape(token))
        };
        match &self.what {
            What::Enqueueing { job } => write!(to, "enqueueing job={}", escape(job)),
            What::Enqueued { job, answer } => {
                write!(to, "enqueued job={} answer={answer}", escape(job))
            }
            What::Started(started) => {
                of_claim(to, "started", &started.job, &started.token)?;
                if let Some(claim) = started.claim {
                    write!(to, " claim={claim}")?;
                }
                if let Some(key) = &started.key {
                    write!(to, " key={}", escape(key))?;
                }
                if let Some(asked) = started.asked {
                    write!(to, " asked={asked}")?;
                }
                if let Some(lease) = started.lease {
                    write!(to, " lease={lease}")?;
                }
                Ok(())
            }
            What::Extended {
                job,
                token,
                asked,
                lease,
            } => {
                of_claim(to, "extended", job, token)?;
                write!(to, " asked={asked} lease={lease}")
            }
            What::LeaseLost { job, token } => of_claim(to, "lease-lost", job, token),
            What::Settling {
                job,
                token,
                outcome,
            } => {
                of_claim(to, "settling", job, token)?;
                write!(to, " outcome={outcome}")
            }
            What::Settled { job, token, answer } => {
                of_claim(to, "settled", job, token)?;
                write!(to, " answer={answer}")
            }
            What::Fault { of, fault } => write!(to, "fault of={} fault={fault}", escape(of)),
            What::Recovered { of } => write!(to, "recovered of={}", escape(of)),
            What::RolledBack { since } => write!(to, "rolled-back since={since}"),
            What::Removing { job } => write!(to, "removing job={}", escape(job)),
            What::Again { job } => write!(to, "again job={}", escape(job)),
            What::Left { job, state } => write!(to, "left job={} state={state}", escape(job)),
            What::Drained => to.write_str("drained"),
        }
    }
}

/// The values of a line, taken out one by one.
struct Values<'a>(BTreeMap<&'a str, &'a str>);

impl Values<'_> {
    fn optional<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, String> {
        let value = self.0.remove(name).map(str::parse);
        value.transpose().map_err(|_| format!("no such {name}"))
    }

    fn take<T: FromStr>(&mut self, name: &str) -> Result<T, String> {
        self.optional(name)?.ok_or_else(|| format!("no {name}"))
    }

    fn optional_text(&mut self, name: &str) -> Result<Option<String>, String> {
        let value = self.0.remove(name).map(unescape);
        value.map_or(Ok(None), |text| {
            text.map(Some).ok_or_else(|| format!("no such {name}"))
        })
    }

    fn text(&mut self, name: &str) -> Result<String, String> {
        self.optional_text(name)?
            .ok_or_else(|| format!("no {name}"))
    }
}

impl FromStr for Event {
    type Err = NotAnEvent;

    fn from_str(line: &str) -> Result<Self, NotAnEvent> {
        parse(line).map_err(|why| NotAnEvent {
            line: line.to_owned(),
            why,
        })
    }
}

fn parse(line: &str) -> Result<Event, String> {
    let mut words = line.split(' ');
    let mut word = || words.next().ok_or_else(|| "too short".to_owned());
    let at = word()?.parse().map_err(|_| "no time")?;
    let by = unescape(word()?).ok_or("no such name")?;
    let verb = word()?;
    let mut values = Values(BTreeMap::new());
    for word in words {
        let (name, value) = word.split_once('=').ok_or("no value")?;
        if values.0.insert(name, value).is_some() {
            return Err(format!("{name} twice"));
        }
    }
    let what = what(verb, &mut values)?;
    if let Some(name) = values.0.keys().next() {
        return Err(format!("{verb} has no {name}"));
    }
    Ok(Event { at, by, what })
}

fn what(verb: &str, values: &mut Values<'_>) -> Result<What, String> {
    Ok(match verb {
        "enqueueing" => What::Enqueueing {
            job: values.text("job")?,
        },
        "enqueued" => What::Enqueued {
            job: values.text("job")?,
            answer: values.take("answer")?,
        },
        "started" => What::Started(Started {
            job: values.text("job")?,
            token: values.text("token")?,
            claim: values.optional("claim")?,
            key: values.optional_text("key")?,
            asked: values.optional("asked")?,
            lease: values.optional("lease")?,
        }),
        "extended" => What::Extended {
            job: values.text("job")?,
            token: values.text("token")?,
            asked: values.take("asked")?,
            lease: values.take("lease")?,
        },
        "lease-lost" => What::LeaseLost {
            job: values.text("job")?,
            token: values.text("token")?,
        },
        "settling" => What::Settling {
            job: values.text("job")?,
            token: values.text("token")?,
            outcome: values.take("outcome")?,
        },
        "settled" => What::Settled {
            job: values.text("job")?,
            token: values.text("token")?,
            answer: values.take("answer")?,
        },
        "fault" => What::Fault {
            of: values.text("of")?,
            fault: values.take("fault")?,
        },
        "recovered" => What::Recovered {
            of: values.text("of")?,
        },
        "rolled-back" => What::RolledBack {
            since: values.take("since")?,
        },
        "removing" => What::Removing {
            job: values.text("job")?,
        },
        "again" => What::Again {
            job: values.text("job")?,
        },
        "left" => What::Left {
            job: values.text("job")?,
            state: values.take("state")?,
        },
        "drained" => What::Drained,
        _ => return Err(format!("no such event as {verb}")),
    })
}
