//! Standard output. If its reader is gone that is not an error: nothing more is written, and a command that would write for
//! ever can see it.

use crate::outcome::Fallible;
use crate::secrets;
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

    /// Whether the output is JSON.
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

    /// Writes text as it is, control characters included.
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

/// Prints an error on standard error.
pub(crate) fn complain(text: &str) {
    remark(&format!("error: {text}"));
}

/// Prints text on standard error, without the passwords of addresses.
pub(crate) fn remark(text: &str) {
    // If it cannot be written, the exit code still says whether it is an error.
    let _ = writeln!(io::stderr(), "{}", harmless(&secrets::hide(text)));
}

/// Escapes text so that it cannot control a terminal, or look like other text on it: jobs come from anywhere.
pub(crate) fn harmless(text: &str) -> String {
    escape(text, |char| char != '\n' && char != '\t' && is_hidden(char))
}

/// Escapes text for one line.
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

/// Escapes JSON: such characters can only be in strings, where they can be written as numbers.
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

/// Whether a character controls a terminal or the direction of text, or is invisible: control characters, line separators,
/// and what Unicode calls default ignorable, which includes all direction overrides and zero-width characters.
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
