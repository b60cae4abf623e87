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
        self.raw(&harmless_json(document))?;
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

/// Jobs come from anywhere: none of them is to control a terminal, or to pass for something else on it.
pub(crate) fn harmless(text: &str) -> String {
    escape(text, |char| char != '\n' && char != '\t' && is_hidden(char))
}

/// The same on one line.
pub(crate) fn cell(text: &str) -> String {
    escape(text, is_hidden)
}

fn escape(text: &str, is_escaped: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        if is_escaped(char) {
            let _ = write!(escaped, "{}", char.escape_default());
        } else {
            escaped.push(char);
        }
    }
    escaped
}

/// The same JSON: in it such characters are nowhere but in strings, and can be written as numbers there.
fn harmless_json(json: String) -> String {
    if !json.contains(is_hidden) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len());
    for char in json.chars() {
        if is_hidden(char) {
            for unit in char.encode_utf16(&mut [0; 2]) {
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(char);
        }
    }
    escaped
}

/// Controls a terminal, or the order of what stands on it, or is not seen at all: controls, separators of lines, and what
/// Unicode calls ignorable by default, which has all that override or isolate a direction, and all of no width.
fn is_hidden(char: char) -> bool {
    char.is_control()
        || matches!(
            char,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}
