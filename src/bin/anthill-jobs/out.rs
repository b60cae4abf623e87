//! Standard output. That its reader goes away is no error: from then on nothing is written, and who would write for ever
//! can see it.

use crate::Fallible;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{self, BufWriter, ErrorKind, Stdout, Write as _};

pub(crate) struct Out {
    to: BufWriter<Stdout>,
    json: bool,
    closed: bool,
}

impl Out {
    pub(crate) fn new(json: bool) -> Out {
        Out {
            to: BufWriter::new(io::stdout()),
            json,
            closed: false,
        }
    }

    /// Whether JSON is asked for.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn line(&mut self, text: &str) -> Fallible<()> {
        self.raw(&harmless(text))?;
        self.raw("\n")
    }

    pub(crate) fn document(&mut self, document: &impl Serialize) -> Fallible<()> {
        let document = serde_json::to_string(document)?;
        self.raw(&document)?;
        self.raw("\n")
    }

    /// Also what moves the cursor.
    pub(crate) fn raw(&mut self, text: &str) -> Fallible<()> {
        if self.closed {
            return Ok(());
        }
        let written = self.to.write_all(text.as_bytes());
        self.look(written)
    }

    pub(crate) fn flush(&mut self) -> Fallible<()> {
        if self.closed {
            return Ok(());
        }
        let flushed = self.to.flush();
        self.look(flushed)
    }

    fn look(&mut self, written: io::Result<()>) -> Fallible<()> {
        match written {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            Err(error) => Err(format!("cannot write to standard output: {error}").into()),
            Ok(()) => Ok(()),
        }
    }
}

/// Jobs come from anywhere: none of them is to control a terminal.
pub(crate) fn harmless(text: &str) -> String {
    let mut harmless = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() && char != '\n' && char != '\t' {
            let _ = write!(harmless, "{}", char.escape_default());
        } else {
            harmless.push(char);
        }
    }
    harmless
}
