//! Showing settings: the values in force as TOML, and the table for the reference page.
use super::duration::format_duration;
use super::program::Program;
use super::setting::{Kind, Setting};
use super::size::format_size;
use super::value::{Value, mask_password};
use super::values::{Entry, Row, Source, Values};

/// The values in force as a TOML file, each with a comment that names its source. Secrets are
/// hidden.
pub fn print_config(values: &Values) -> String {
    let mut text = String::new();
    for setting in values.settings.iter().filter(|setting| !setting.flag_only) {
        let key = toml_key(setting.key);
        match values.entries.get(setting.key) {
            None => text.push_str(&format!("# {key} is not set\n")),
            Some(entry) => {
                let from = match entry.source {
                    Source::Default => "default".to_owned(),
                    _ => values.place(setting.key).to_string(),
                };
                text.push_str(&format!("{key} = {}  # {from}\n", shown(setting, &entry.value, "")));
            }
        }
    }
    text
}

fn toml_key(key: &str) -> String {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let part = |part: &str| if part.chars().all(good) { part.to_owned() } else { quoted(part) };
    key.split('.').map(part).collect::<Vec<_>>().join(".")
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn shown(setting: &Setting, value: &Value, indent: &str) -> String {
    match value {
        _ if setting.secret => "\"(hidden)\"".to_owned(),
        Value::Switch(on) => on.to_string(),
        Value::Text(text) => quoted(&mask_password(text)),
        Value::Integer(number) => number.to_string(),
        Value::Number(number) => toml::Value::Float(*number).to_string(),
        Value::Duration(duration) => quoted(&format_duration(*duration)),
        Value::Size(bytes) => quoted(&format_size(*bytes)),
        Value::Address(address) => quoted(&address.to_string()),
        Value::Texts(texts) => {
            format!(
                "[{}]",
                texts.iter().map(|text| quoted(&mask_password(text))).collect::<Vec<_>>().join(", ")
            )
        }
        Value::Rows(rows) if rows.is_empty() => "[]".to_owned(),
        Value::Rows(rows) => {
            let rows = rows.iter().map(|row| format!("{indent}  {},\n", shown_row(row)));
            format!("[\n{}{indent}]", rows.collect::<String>())
        }
    }
}

fn shown_row(row: &Row) -> String {
    match row {
        Row::Text(row) => quoted(&mask_password(row.text())),
        Row::Table(values) => {
            let set = values.settings.iter().filter_map(|setting| {
                let entry = values.entries.get(setting.key)?;
                Some(format!("{} = {}", toml_key(setting.key), shown(setting, &entry.value, "  ")))
            });
            format!("{{ {} }}", set.collect::<Vec<_>>().join(", "))
        }
    }
}

/// Keys of settings that are read at the start alone and differ between two loads.
pub(crate) fn changed_at_start(old: &Values, new: &Values) -> Vec<&'static str> {
    let form = |values: &Values, setting: &Setting| match values.entries.get(setting.key) {
        // Exact where the shown form hides something; rows are compared as they are shown.
        Some(Entry { value: Value::Text(text), .. }) => Some(text.clone()),
        Some(entry) => Some(shown(setting, &entry.value, "")),
        None => None,
    };
    let of_start = new.settings.iter().filter(|setting| setting.at_start);
    of_start.filter(|setting| form(old, setting) != form(new, setting)).map(|setting| setting.key).collect()
}

/// The Markdown table of a program's settings for its reference page, a section per group.
pub fn reference_table(program: &Program) -> String {
    let mut text = String::new();
    let settings = program.all_settings();
    let mut groups: Vec<&str> = Vec::new();
    for setting in &settings {
        if !groups.contains(&setting.group) {
            groups.push(setting.group);
        }
    }
    for group in groups {
        text.push_str(&format!("### {group}\n\n| key | flag | environment | default | meaning |\n| --- | --- | --- | --- | --- |\n"));
        for setting in settings.iter().filter(|setting| setting.group == group) {
            text.push_str(&reference_row(program.name, setting, ""));
            if let Kind::Tables(columns) = setting.kind {
                let rows = columns.iter().map(|column| reference_row(program.name, column, setting.key));
                text.extend(rows);
            }
        }
        text.push('\n');
    }
    text
}

fn reference_row(program: &str, setting: &Setting, table: &str) -> String {
    let flag = setting.flag.map_or(String::new(), |flag| format!("`--{flag}`"));
    let env = if table.is_empty() { format!("`{}`", setting.env_name(program)) } else { String::new() };
    let default = setting.default.or(setting.default_note);
    let default = default.map_or(String::new(), |text| format!("`{}`", text.replace('|', "\\|")));
    let key = match (table, setting.flag_only) {
        (_, true) => String::new(),
        ("", _) => format!("`{}`", setting.key),
        _ => format!("`{table}[].{}`", setting.key),
    };
    let mut help = setting.help.replace('|', "\\|");
    if setting.at_start {
        help.push_str(" (read at the start)");
    }
    format!("| {key} | {flag} | {env} | {default} | {help} |\n")
}
