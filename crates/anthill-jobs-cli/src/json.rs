//! JSON as it is stored, printed with other blanks and no other change: numbers keep their digits, objects their order.

use serde_json::value::RawValue;
use std::str::Chars;

/// The data on one line, if it is JSON.
pub(crate) fn parse(data: &[u8]) -> Option<Box<RawValue>> {
    let text = std::str::from_utf8(data).ok()?;
    let json: &RawValue = serde_json::from_str(text).ok()?;
    RawValue::from_string(compact(json.get())).ok()
}

/// JSON without blanks between its tokens.
pub(crate) fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json.chars();
    while let Some(char) = rest.next() {
        match char {
            '"' => string(&mut rest, &mut out),
            ' ' | '\t' | '\n' | '\r' => {}
            char => out.push(char),
        }
    }
    out
}

/// Compact JSON with one member per line.
pub(crate) fn pretty(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0_usize;
    let mut rest = json.chars();
    while let Some(char) = rest.next() {
        match char {
            '"' => string(&mut rest, &mut out),
            '{' | '[' => {
                out.push(char);
                if rest.as_str().starts_with(['}', ']']) {
                    out.extend(rest.next());
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(char);
            }
            ',' => {
                out.push(char);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            char => out.push(char),
        }
    }
    out
}

/// The rest of a string.
fn string(rest: &mut Chars<'_>, out: &mut String) {
    out.push('"');
    while let Some(char) = rest.next() {
        out.push(char);
        match char {
            '"' => return,
            '\\' => out.extend(rest.next()),
            _ => {}
        }
    }
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    // Otherwise a megabyte of brackets would become a gigabyte.
    for _ in 0..depth.min(50) {
        out.push_str("  ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_change_and_nothing_else() {
        let json =
            "{ \"b\" : [ 1.50 , { } , [ ] ,\n\"a \\\" , \\\\\" ], \"a\":12345678901234567890123 }";
        let line = r#"{"b":[1.50,{},[],"a \" , \\"],"a":12345678901234567890123}"#;
        assert_eq!(parse(json.as_bytes()).unwrap().get(), line);
        let lines = [
            "{",
            "  \"b\": [",
            "    1.50,",
            "    {},",
            "    [],",
            "    \"a \\\" , \\\\\"",
            "  ],",
            "  \"a\": 12345678901234567890123",
            "}",
        ];
        assert_eq!(pretty(line), lines.join("\n"));
        assert_eq!(compact(&pretty(line)), line);
    }

    #[test]
    fn what_is_no_json_is_not_taken_for_it() {
        for data in [&b""[..], b"{", b"1 2", b"\"\xff\"", b"letter"] {
            assert!(parse(data).is_none(), "{data:?}");
        }
    }

    #[test]
    fn brackets_alone_stay_small() {
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        assert!(pretty(&deep).len() < deep.len() * 102);
    }
}
