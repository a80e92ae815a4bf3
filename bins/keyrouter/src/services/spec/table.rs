//! The keys of one table, matched in any case.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::quote::quoted;
use super::reader::Reader;

/// A value of the file with the line of its key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) line: usize,
    pub(super) value: &'a Spanned<DeValue<'a>>,
}

/// Longer keys are no slips of a known one, and to compare them takes memory.
const LONGEST_SLIP: usize = 32;

impl Reader<'_, '_> {
    /// The values of the `known` keys in their order. A key that is not known, and one that stands twice
    /// in different spellings, is an error.
    pub(super) fn fields<'t, const N: usize>(
        &mut self,
        table: &'t DeTable<'t>,
        known: [&'static str; N],
    ) -> [Option<Field<'t>>; N] {
        let mut members: Vec<_> = table.iter().collect();
        members.sort_by_key(|(key, _)| key.span().start);
        let mut found: [Option<(&str, Field<'t>)>; N] = [None; N];
        for (key, value) in members {
            if self.findings.is_full() {
                break;
            }
            let (name, line) = (&**key.get_ref(), self.line_of(key.span().start));
            let Some(index) = known.iter().position(|known| known.eq_ignore_ascii_case(name)) else {
                self.findings.error(line, unknown(name, &known));
                continue;
            };
            match found[index] {
                None => found[index] = Some((name, Field { line, value })),
                Some((first, field)) => {
                    let message =
                        format!("'{name}' is '{first}' of line {} in another spelling: keep one", field.line);
                    self.findings.error(line, message);
                }
            }
        }
        found.map(|field| field.map(|(_, field)| field))
    }

    /// The text that `field` has to be.
    pub(super) fn text<'t>(&mut self, key: &str, field: Field<'t>) -> Option<&'t str> {
        if let DeValue::String(text) = field.value.get_ref() {
            return Some(text);
        }
        let message = format!("'{key}' has to be a text, not {}", noun(field.value.get_ref()));
        self.findings.error(field.line, message);
        None
    }
}

fn unknown(name: &str, known: &[&str]) -> String {
    let mut message = format!("unknown key {}", quoted(name).replace('"', "'"));
    if name.len() <= LONGEST_SLIP {
        let distance = |known: &str| {
            strsim::damerau_levenshtein(&known.to_ascii_lowercase(), &name.to_ascii_lowercase())
        };
        let nearest = known.iter().map(|known| (distance(known), *known)).min();
        if let Some((_, near)) = nearest.filter(|(distance, _)| *distance <= 1 + name.chars().count() / 4) {
            message.push_str(&format!(": did you mean '{near}'?"));
        }
    }
    message
}

/// What a message calls this kind of value.
pub(super) fn noun(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with decimals",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
