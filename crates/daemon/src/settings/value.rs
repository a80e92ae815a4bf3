//! Turning a text or a node of a file into the value that a setting asks for.
use std::time::Duration;

use super::address::{Address, is_host};
use super::duration::{format_duration, parse_duration};
use super::file::{Content, Node};
use super::setting::{Kind, Setting};
use super::size::{format_size, parse_size};
use super::values::Row;

/// A value that passed its setting's checks.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Switch(bool),
    Text(String),
    Integer(i64),
    Number(f64),
    Duration(Duration),
    Size(u64),
    Address(Address),
    Texts(Vec<String>),
    Rows(Vec<Row>),
}

/// Reads the text of a flag, a variable, a default or a string in a file. Lists are not text.
pub(crate) fn from_text(setting: &Setting, text: &str) -> Result<Value, String> {
    let translated = setting.compat.and_then(|translate| translate(text));
    let text = translated.as_deref().unwrap_or(text);
    match setting.kind {
        Kind::Switch => switch(text).map(Value::Switch),
        Kind::Text | Kind::Texts | Kind::Tables(_) => Ok(Value::Text(text.to_owned())),
        Kind::Integer { .. } => match text.trim().parse() {
            Ok(number) => integer(setting, number),
            Err(_) => Err(format!("'{text}' is not a whole number{}", bounds(setting))),
        },
        Kind::Number => match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::Number(number)),
            _ => Err(format!("'{text}' is not a number")),
        },
        Kind::Duration { .. } => {
            let duration = parse_duration(text, setting.bare_unit).map_err(|error| error.to_string())?;
            checked_duration(setting, duration)
        }
        Kind::Size { .. } => checked_size(setting, parse_size(text).map_err(|error| error.to_string())?),
        Kind::Choice(words) => choice(words, text),
        Kind::Host if is_host(text) => Ok(Value::Text(text.to_owned())),
        Kind::Host => Err(format!("'{text}' is not a host name or an IP address")),
        Kind::Address => {
            text.parse().map(Value::Address).map_err(|error: super::AddressError| error.to_string())
        }
        Kind::Path if text.is_empty() => Err("is empty; name a file or directory".to_owned()),
        Kind::Path => Ok(Value::Text(text.to_owned())),
        Kind::Url => url(text),
        Kind::Regex => match regex::Regex::new(text) {
            Ok(_) => Ok(Value::Text(text.to_owned())),
            Err(error) => Err(format!("is not a regular expression: {}", one_line(&error.to_string()))),
        },
    }
}

/// Reads a file's value, but for lists, which can hold several problems of their own.
pub(crate) fn from_node(setting: &Setting, node: &Node) -> Result<Value, String> {
    match (&node.content, setting.kind) {
        (Content::Text(text), kind) if !kind.is_list() => match kind {
            // In a file, a switch or a number in quotes is a slip that other readers would refuse.
            Kind::Switch | Kind::Integer { .. } | Kind::Number if setting.compat.is_none() => {
                Err(wrong_kind(setting, &node.content))
            }
            _ => from_text(setting, text),
        },
        (Content::Switch(on), Kind::Switch) => Ok(Value::Switch(*on)),
        (Content::Integer(number), Kind::Integer { .. }) => integer(setting, *number),
        (Content::Integer(number), Kind::Number) => Ok(Value::Number(*number as f64)),
        (Content::Number(number), Kind::Number) if number.is_finite() => Ok(Value::Number(*number)),
        (Content::Integer(number), Kind::Duration { .. } | Kind::Size { .. }) => {
            from_text(setting, &number.to_string())
        }
        (content, _) => Err(wrong_kind(setting, content)),
    }
}

pub(crate) fn wrong_kind(setting: &Setting, content: &Content) -> String {
    let wanted = match setting.kind {
        Kind::Switch => "true or false",
        Kind::Integer { .. } => "a whole number",
        Kind::Number => "a number",
        Kind::Duration { .. } => "a time such as \"10s\"",
        Kind::Size { .. } => "a size such as \"64MiB\"",
        Kind::Texts => "a list of texts",
        Kind::Tables(_) => "an array of tables",
        _ => "a text in quotes",
    };
    format!("'{}' has to be {wanted}, not {}", setting.key, content.noun())
}

fn switch(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" | "" => Ok(false),
        _ => Err(format!("'{text}' is neither true nor false")),
    }
}

fn bounds(setting: &Setting) -> String {
    match setting.kind {
        Kind::Integer { min, max: i64::MAX } => format!(" of at least {min}"),
        Kind::Integer { min, max } => format!(" between {min} and {max}"),
        _ => String::new(),
    }
}

fn integer(setting: &Setting, number: i64) -> Result<Value, String> {
    match setting.kind {
        Kind::Integer { min, max } if (min..=max).contains(&number) => Ok(Value::Integer(number)),
        _ => Err(format!("{number} is not a whole number{}", bounds(setting))),
    }
}

fn checked_duration(setting: &Setting, duration: Duration) -> Result<Value, String> {
    let Kind::Duration { min, max } = setting.kind else { return Ok(Value::Duration(duration)) };
    let given = format_duration(duration);
    if duration < min {
        return Err(format!("{given} is too short, the least is {}", format_duration(min)));
    }
    if duration > max {
        return Err(format!("{given} is too long, the most is {}", format_duration(max)));
    }
    Ok(Value::Duration(duration))
}

fn checked_size(setting: &Setting, bytes: u64) -> Result<Value, String> {
    let Kind::Size { min, max } = setting.kind else { return Ok(Value::Size(bytes)) };
    let given = format_size(bytes);
    if bytes < min {
        return Err(format!("{given} is too small, the least is {}", format_size(min)));
    }
    if bytes > max {
        return Err(format!("{given} is too large, the most is {}", format_size(max)));
    }
    Ok(Value::Size(bytes))
}

fn choice(words: &[&str], text: &str) -> Result<Value, String> {
    let found = words.iter().find(|word| word.eq_ignore_ascii_case(text.trim()));
    match found {
        Some(word) => Ok(Value::Text((*word).to_owned())),
        None => Err(format!("'{text}' is none of {}", words.join(", "))),
    }
}

fn url(text: &str) -> Result<Value, String> {
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let starts = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
    if !starts || !scheme.chars().all(good) || text.contains(char::is_whitespace) {
        let shown = mask_password(text);
        return Err(format!("'{shown}' is not a URL; write one with a scheme, as in http://host:port/"));
    }
    Ok(Value::Text(text.to_owned()))
}

/// Where the password of a URL stands, if it has one.
fn password(text: &str) -> Option<std::ops::Range<usize>> {
    let authority = text.find("://")? + 3;
    let end = text[authority..].find(['/', '?', '#']).map_or(text.len(), |at| authority + at);
    let at = authority + text[authority..end].rfind('@')?;
    let colon = authority + text[authority..at].find(':')?;
    (colon + 1 < at).then_some(colon + 1..at)
}

pub(crate) fn has_password(text: &str) -> bool {
    password(text).is_some()
}

/// The URL with its password hidden, fit for logs and `--print-config`.
pub(crate) fn mask_password(text: &str) -> String {
    match password(text) {
        Some(range) => format!("{}***{}", &text[..range.start], &text[range.end..]),
        None => text.to_owned(),
    }
}

fn one_line(text: &str) -> String {
    text.lines().last().unwrap_or("").trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: Kind, text: &str) -> String {
        from_text(&Setting::new("k", kind, ""), text).unwrap_err()
    }

    #[test]
    fn messages_name_value_and_bounds() {
        assert_eq!(error(Kind::PORT, "70000"), "70000 is not a whole number between 0 and 65535");
        assert_eq!(error(Kind::COUNT, "x"), "'x' is not a whole number of at least 1");
        assert_eq!(error(Kind::WAIT, "0s"), "0s is too short, the least is 1ms");
        assert_eq!(error(Kind::Choice(&["first", "all"]), "most"), "'most' is none of first, all");
        assert_eq!(error(Kind::Host, "ho st"), "'ho st' is not a host name or an IP address");
        assert!(error(Kind::Regex, "(").starts_with("is not a regular expression: "));
        assert!(error(Kind::Url, "host:port/ x").contains("not a URL"));
    }

    #[test]
    fn choices_take_any_case_and_give_the_declared_word() {
        let setting = Setting::new("k", Kind::Choice(&["first", "all"]), "");
        assert!(matches!(from_text(&setting, "ALL"), Ok(Value::Text(word)) if word == "all"));
    }

    #[test]
    fn an_original_form_is_translated_first() {
        let setting = Setting::new("k", Kind::Choice(&["users"]), "")
            .compat(|text| (text == "LDAP-off").then(|| "users".to_owned()));
        assert!(matches!(from_text(&setting, "LDAP-off"), Ok(Value::Text(word)) if word == "users"));
    }

    #[test]
    fn passwords_are_found_and_hidden() {
        assert!(has_password("redis://u:p@h/0"));
        assert!(has_password("redis://:p@ss@h"));
        assert!(!has_password("redis://u@h/0") && !has_password("http://h:80/a:b@c"));
        assert_eq!(mask_password("redis://:p@h:1/0?x=y"), "redis://:***@h:1/0?x=y");
        assert_eq!(mask_password("http://h/"), "http://h/");
    }
}
