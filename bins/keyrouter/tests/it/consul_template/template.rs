//! So much of consul-template's language as the template uses. Anything else panics: then consul-template has to
//! show what it makes of it, and this has to learn it.

use super::{Catalog, Instance, Service};

/// What stands between two tags, or a tag and what belongs to it.
#[derive(Debug)]
enum Piece {
    Text(String),
    Value(String),
    Range(String, Vec<Piece>),
    If(String, Vec<Piece>, Vec<Piece>),
}

/// A parsed template.
#[derive(Debug)]
pub(super) struct Template(Vec<Piece>);

#[derive(Debug)]
enum Token {
    Text(String),
    Tag(String),
}

/// What `.` is.
#[derive(Debug, Clone, Copy)]
enum Dot<'a> {
    Catalog,
    Service(&'a Service),
    Instance(&'a Instance),
}

#[derive(Debug, Clone)]
enum Value {
    Text(String),
    Number(u16),
    List(Vec<String>),
    Bool(bool),
}

impl Template {
    pub(super) fn parse(text: &str) -> Self {
        let mut tokens = tokens(text).into_iter();
        let (pieces, end) = block(&mut tokens);
        assert_eq!(end, None, "a tag too many");
        Self(pieces)
    }

    pub(super) fn render(&self, catalog: &Catalog) -> String {
        let mut text = String::new();
        write(&self.0, Dot::Catalog, catalog, &mut text);
        text
    }
}

/// Texts and tags, with white space gone where a tag says so, and without comments.
fn tokens(mut rest: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    while let Some((before, behind)) = rest.split_once("{{") {
        let (mut tag, mut after) = behind.split_once("}}").expect("every {{ has a }}");
        let mut before = before;
        if let Some(trimmed) = tag.strip_prefix("- ") {
            (tag, before) = (trimmed, before.trim_end());
        }
        if let Some(trimmed) = tag.strip_suffix(" -") {
            (tag, after) = (trimmed, after.trim_start());
        }
        tokens.push(Token::Text(before.to_owned()));
        let tag = tag.trim();
        if !(tag.starts_with("/*") && tag.ends_with("*/")) {
            tokens.push(Token::Tag(tag.to_owned()));
        }
        rest = after;
    }
    tokens.push(Token::Text(rest.to_owned()));
    tokens
}

/// Everything up to the `end` or `else` of the block that began before, which is given too.
fn block(tokens: &mut std::vec::IntoIter<Token>) -> (Vec<Piece>, Option<String>) {
    let mut pieces = Vec::new();
    while let Some(token) = tokens.next() {
        let tag = match token {
            Token::Text(text) => {
                pieces.push(Piece::Text(text));
                continue;
            }
            Token::Tag(tag) => tag,
        };
        if tag == "end" || tag == "else" {
            return (pieces, Some(tag));
        }
        if let Some(list) = tag.strip_prefix("range ") {
            let (body, end) = block(tokens);
            assert_eq!(end.as_deref(), Some("end"), "{tag}");
            pieces.push(Piece::Range(list.to_owned(), body));
        } else if let Some(condition) = tag.strip_prefix("if ") {
            let (yes, end) = block(tokens);
            let (no, end) = if end.as_deref() == Some("else") { block(tokens) } else { (Vec::new(), end) };
            assert_eq!(end.as_deref(), Some("end"), "{tag}");
            pieces.push(Piece::If(condition.to_owned(), yes, no));
        } else {
            pieces.push(Piece::Value(tag));
        }
    }
    (pieces, None)
}

fn write(pieces: &[Piece], dot: Dot<'_>, catalog: &Catalog, text: &mut String) {
    for piece in pieces {
        match piece {
            Piece::Text(plain) => text.push_str(plain),
            Piece::Value(expression) => match evaluate(expression, dot) {
                Value::Text(value) => text.push_str(&value),
                other => panic!("{expression} is {other:?}, which has to be quoted"),
            },
            Piece::If(condition, yes, no) => match evaluate(condition, dot) {
                Value::Bool(holds) => write(if holds { yes } else { no }, dot, catalog, text),
                other => panic!("{condition} is {other:?}"),
            },
            Piece::Range(list, body) => {
                range(list, dot, catalog).into_iter().for_each(|dot| write(body, dot, catalog, text));
            }
        }
    }
}

/// `services`, or `service .Name`: the healthy instances of that name.
fn range<'a>(list: &str, dot: Dot<'a>, catalog: &'a Catalog) -> Vec<Dot<'a>> {
    match (list, dot) {
        ("services", _) => catalog.iter().map(Dot::Service).collect(),
        ("service .Name", Dot::Service(service)) => {
            let known = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
            assert!(service.name.chars().all(known), "consul-template cannot ask for {:?}", service.name);
            service.instances.iter().filter(|instance| instance.healthy).map(Dot::Instance).collect()
        }
        _ => panic!("range over {list} of {dot:?} is not known here"),
    }
}

/// Terms in a row, each taking what came out of the one before as its last word.
fn evaluate(expression: &str, dot: Dot<'_>) -> Value {
    let terms = expression.split(" | ").map(words);
    let value = terms.fold(None, |piped, words| Some(call(&words, piped, dot)));
    value.expect("there is at least one term")
}

/// Words and texts in quotes, which have no escapes and no `|` with spaces around it.
fn words(term: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (number, part) in term.split('"').enumerate() {
        if number % 2 == 1 {
            words.push(format!("\"{part}"));
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

fn call(words: &[String], piped: Option<Value>, dot: Dot<'_>) -> Value {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match (words.as_slice(), piped, dot) {
        (&[field], None, _) => self::field(field, dot),
        (&["toJSON"], Some(Value::Text(text)), _) => Value::Text(to_json(&text)),
        (&["contains", "\"keyrouter"], Some(Value::List(list)), _) => {
            Value::Bool(list.iter().any(|item| item == "keyrouter"))
        }
        (&["contains", "\":"], Some(Value::Text(text)), _) => Value::Bool(text.contains(':')),
        (&["regexMatch", "\"^[0-9A-Za-z_-]+$"], Some(Value::Text(text)), _) => {
            let known = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
            Value::Bool(!text.is_empty() && text.chars().all(known))
        }
        (&["printf", form @ ("\"%s:%d" | "\"[%s]:%d"), first, second], None, _) => {
            match (field(first, dot), field(second, dot)) {
                (Value::Text(text), Value::Number(number)) => {
                    Value::Text(form[1..].replacen("%s", &text, 1).replace("%d", &number.to_string()))
                }
                other => panic!("{form} of {other:?}"),
            }
        }
        (words, piped, _) => panic!("{words:?} of {piped:?} is not known here"),
    }
}

fn field(name: &str, dot: Dot<'_>) -> Value {
    match (name, dot) {
        (".Name", Dot::Service(service)) => Value::Text(service.name.clone()),
        (".Tags", Dot::Service(service)) => Value::List(service.tags.clone()),
        (".Address", Dot::Instance(instance)) => Value::Text(instance.address.clone()),
        (".Port", Dot::Instance(instance)) => Value::Number(instance.port),
        _ => panic!("{name} of {dot:?} is not known here"),
    }
}

/// As Go writes it: signs that mean something to browsers are escaped, too.
fn to_json(text: &str) -> String {
    let mut json = serde_json::to_string(text).unwrap();
    for sign in ['<', '>', '&', '\u{2028}', '\u{2029}'] {
        json = json.replace(sign, &format!("\\u{:04x}", u32::from(sign)));
    }
    json
}
