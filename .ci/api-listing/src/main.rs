//! `anthill-api-listing FILE.json`: the public items of the crate that rustdoc wrote to `FILE.json`, one a line.

use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(file) = std::env::args_os().nth(1) else {
        eprintln!("anthill-api-listing FILE.json");
        return ExitCode::from(2);
    };
    // What the language derives of a type's fields is the business of tests; blanket implementations are noise.
    let listing = public_api::Builder::from_rustdoc_json(&file)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(false)
        .omit_auto_derived_impls(false)
        .build();
    match listing {
        Ok(listing) => {
            print!("{listing}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {error}", file.to_string_lossy());
            ExitCode::FAILURE
        }
    }
}
