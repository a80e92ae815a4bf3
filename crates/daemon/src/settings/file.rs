//! A configuration file, TOML or JSON, as one kind of tree that knows its lines.
use jsonc_parser::ast;
use toml::de::{DeTable, DeValue};

use super::problems::{Place, Problems};

/// A value in a file with the line that it starts on.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) line: usize,
    pub(crate) content: Content,
}

#[derive(Debug, Clone)]
pub(crate) enum Content {
    Null,
    Switch(bool),
    Integer(i64),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    Table(Vec<Member>),
    /// A TOML date, which no setting takes.
    Date,
}

impl Content {
    /// What a message calls this kind of value.
    pub(crate) fn noun(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Switch(_) => "true or false",
            Self::Integer(_) => "a whole number",
            Self::Number(_) => "a number with decimals",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Date => "a date",
        }
    }
}

/// One key of a table with its value.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) key: String,
    pub(crate) line: usize,
    pub(crate) node: Node,
}

/// A parsed file.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) json: bool,
    pub(crate) root: Vec<Member>,
}

/// Parses what `name` holds: JSON where it starts with `{`, else TOML.
pub(crate) fn parse(name: &str, text: &str, problems: &mut Problems) -> File {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let json = text.trim_start().starts_with('{');
    let lines = Lines::new(text);
    let mut reader = Reader { name, lines, problems };
    let root = if json { reader.json(text) } else { reader.toml(text) };
    File { json, root }
}

/// Where each line starts, to turn an offset into a line number.
struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect())
    }

    fn of(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }
}

struct Reader<'a> {
    name: &'a str,
    lines: Lines,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    fn syntax(&mut self, offset: usize, message: &str) {
        let place = Place::file(self.name, self.lines.of(offset));
        self.problems.syntax(place, message);
    }

    fn toml(&mut self, text: &str) -> Vec<Member> {
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let offset = error.span().map_or(0, |span| span.start);
            self.syntax(offset, error.message());
        }
        self.toml_table(table.get_ref())
    }

    fn toml_table(&mut self, table: &DeTable<'_>) -> Vec<Member> {
        let mut members: Vec<Member> = Vec::with_capacity(table.len());
        for (key, value) in table.iter() {
            let node = self.toml_node(value);
            let line = self.lines.of(key.span().start);
            members.push(Member { key: key.get_ref().to_string(), line, node });
        }
        members.sort_by_key(|member| member.line);
        members
    }

    fn toml_node(&mut self, value: &toml::Spanned<DeValue<'_>>) -> Node {
        let line = self.lines.of(value.span().start);
        let content = match value.get_ref() {
            DeValue::String(text) => Content::Text(text.to_string()),
            DeValue::Boolean(on) => Content::Switch(*on),
            DeValue::Datetime(_) => Content::Date,
            DeValue::Float(number) => Content::Number(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Content::Integer(number),
                Err(_) => Content::Number(number.as_str().parse().unwrap_or(f64::NAN)),
            },
            DeValue::Array(items) => Content::List(items.iter().map(|item| self.toml_node(item)).collect()),
            DeValue::Table(table) => Content::Table(self.toml_table(table)),
        };
        Node { line, content }
    }

    fn json(&mut self, text: &str) -> Vec<Member> {
        // Strict: what other programs refuse to read as JSON is refused here too.
        let strict = jsonc_parser::ParseOptions {
            allow_comments: false,
            allow_loose_object_property_names: false,
            allow_trailing_commas: false,
            allow_missing_commas: false,
            allow_single_quoted_strings: false,
            allow_hexadecimal_numbers: false,
            allow_unary_plus_numbers: false,
            allow_bare_decimal_point_numbers: false,
            allow_non_finite_numbers: false,
            allow_extended_string_escapes: false,
        };
        let parsed = jsonc_parser::parse_to_ast(text, &jsonc_parser::CollectOptions::default(), &strict);
        match parsed.map(|parsed| parsed.value) {
            Ok(Some(ast::Value::Object(object))) => self.json_table(&object),
            Ok(_) => Vec::new(),
            Err(error) => {
                let message = format!("this is not JSON: {}", lower_first(&error.kind().to_string()));
                self.syntax(error.range().start, &message);
                Vec::new()
            }
        }
    }

    fn json_table(&mut self, object: &ast::Object<'_>) -> Vec<Member> {
        let mut members: Vec<Member> = Vec::with_capacity(object.properties.len());
        for property in &object.properties {
            let key = property.name.as_str().to_owned();
            if members.iter().any(|member| member.key == key) {
                self.syntax(property.range.start, &format!("duplicate key '{key}'"));
                continue;
            }
            let line = self.lines.of(property.range.start);
            let node = self.json_node(&property.value);
            members.push(Member { key, line, node });
        }
        members
    }

    fn json_node(&mut self, value: &ast::Value<'_>) -> Node {
        use jsonc_parser::common::Ranged as _;
        let line = self.lines.of(value.range().start);
        let content = match value {
            ast::Value::NullKeyword(_) => Content::Null,
            ast::Value::BooleanLit(literal) => Content::Switch(literal.value),
            ast::Value::StringLit(literal) => Content::Text(literal.value.to_string()),
            ast::Value::NumberLit(literal) => match literal.value.parse() {
                Ok(number) => Content::Integer(number),
                Err(_) => Content::Number(literal.value.parse().unwrap_or(f64::NAN)),
            },
            ast::Value::Array(array) => {
                Content::List(array.elements.iter().map(|item| self.json_node(item)).collect())
            }
            ast::Value::Object(object) => Content::Table(self.json_table(object)),
        };
        Node { line, content }
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_of(text: &str) -> Vec<String> {
        let mut problems = Problems::default();
        parse("f", text, &mut problems);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn both_forms_make_the_same_tree() {
        let mut problems = Problems::default();
        let toml = parse("f", "a = 1\n[b]\nc = \"x\"\n[[n]]\nd = true\n", &mut problems);
        let json =
            parse("f", "{\"a\": 1,\n\"b\": {\n\"c\": \"x\"},\n\"n\": [{\n\"d\": true}]}", &mut problems);
        assert!(problems.is_empty());
        assert!(json.json && !toml.json);
        let keys = |file: &File| file.root.iter().map(|member| member.key.clone()).collect::<Vec<_>>();
        assert_eq!(keys(&toml), keys(&json));
        assert_eq!(toml.root.iter().map(|member| member.line).collect::<Vec<_>>(), [1, 2, 4]);
    }

    #[test]
    fn every_syntax_error_comes_with_its_line() {
        let found = problems_of("a = 1\na = 2\nb = = 3\n");
        assert!(found.iter().any(|line| line.starts_with("f:2: ")), "{found:?}");
        assert!(found.iter().any(|line| line.starts_with("f:3: ")), "{found:?}");
    }

    #[test]
    fn json_is_strict() {
        assert!(
            problems_of("{\"a\": 1,\n}")[0].starts_with("f:2: ") || !problems_of("{\"a\": 1,\n}").is_empty()
        );
        assert!(!problems_of("{// no\n}").is_empty());
        assert_eq!(problems_of("{\"a\": 1,\n\"a\": 2}"), ["f:2: duplicate key 'a'"]);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[\\[\\]{}a-c=\",.0-9\n #:-]{0,40}") {
            problems_of(&text);
        }
    }
}
