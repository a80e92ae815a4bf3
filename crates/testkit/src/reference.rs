//! Whether a page of the reference says what the program says.

use std::path::Path;
use std::process::Command;

/// Asserts that each row of the table of settings, as the program prints it, stands on the page. Panics
/// with the rows that are missing.
pub fn assert_documents(page: impl AsRef<Path>, program: impl AsRef<Path>) {
    let (page, program) = (page.as_ref(), program.as_ref());
    let text = std::fs::read_to_string(page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
    let printed = Command::new(program)
        .arg("reference")
        .output()
        .unwrap_or_else(|error| panic!("starting {}: {error}", program.display()));
    let printed = String::from_utf8(printed.stdout).expect("a table is text");
    let rows: Vec<&str> = printed.lines().filter(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 2, "{} printed no table", program.display());
    let missing: Vec<&str> = rows.into_iter().filter(|row| !text.lines().any(|line| line == *row)).collect();
    assert!(missing.is_empty(), "{} lacks these rows:\n{}", page.display(), missing.join("\n"));
}
