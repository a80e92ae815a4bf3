//! From a file's bytes to its services.

use std::cell::OnceCell;
use std::collections::HashMap;

use common::ring::Algorithm;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::quote::quoted;
use super::findings::Findings;
use super::table::{Field, noun};
use super::{ServiceSpec, Spec};

/// Up to this size all errors of syntax are told, beyond it the first: each one takes memory.
const ALL_ERRORS_UP_TO: usize = 1 << 20;

/// Reads one file.
pub(super) struct Reader<'a, 'f> {
    text: &'a str,
    /// Where each line starts, to turn an offset into a line. Made after the text was parsed, which is
    /// when most memory is in use.
    lines: OnceCell<Vec<usize>>,
    pub(super) findings: &'f mut Findings,
}

impl<'a, 'f> Reader<'a, 'f> {
    /// A reader of `content`, unless it is no text.
    pub(super) fn new(content: &'a [u8], findings: &'f mut Findings) -> Option<Self> {
        let content = content.strip_prefix("\u{feff}".as_bytes()).unwrap_or(content);
        let line_of = |offset: usize| memchr::memchr_iter(b'\n', &content[..offset]).count() + 1;
        // Told at once: a file that was cut off by a crash may be nothing else.
        if let Some(at) = memchr::memchr(0, content) {
            findings.syntax(line_of(at), "a byte 0, which no text has: the file is damaged");
            return None;
        }
        let text = match std::str::from_utf8(content) {
            Ok(text) => text,
            Err(error) => {
                let (at, byte) = (error.valid_up_to(), content[error.valid_up_to()]);
                findings
                    .syntax(line_of(at), &format!("byte 0x{byte:02x} is not UTF-8: save the file as UTF-8"));
                return None;
            }
        };
        Some(Self { text, lines: OnceCell::new(), findings })
    }

    /// The line of an offset, counted from 1.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        let lines = self.lines.get_or_init(|| {
            let breaks = memchr::memchr_iter(b'\n', self.text.as_bytes());
            std::iter::once(0).chain(breaks.map(|at| at + 1)).collect()
        });
        lines.partition_point(|start| *start <= offset)
    }

    /// What the file says.
    pub(super) fn read(mut self, default: Algorithm) -> Option<Spec> {
        let table = self.parse()?;
        let [algorithm, services] = self.fields(table.get_ref(), ["Algorithm", "Services"]);
        // `None`: unknown, because what the file says is wrong. Nothing is checked against it then.
        let top = algorithm.map(|field| self.algorithm(field));
        let default = top.unwrap_or(Some(default));
        let services = services.map(|field| self.services(field, default)).unwrap_or_default();
        Some(Spec { algorithm: top.flatten(), services })
    }

    fn parse(&mut self) -> Option<Spanned<DeTable<'a>>> {
        let (table, errors) = if self.text.len() <= ALL_ERRORS_UP_TO {
            let (table, errors) = DeTable::parse_recoverable(self.text);
            (Some(table), errors)
        } else {
            match DeTable::parse(self.text) {
                Ok(table) => (Some(table), Vec::new()),
                Err(error) => (None, vec![error]),
            }
        };
        for error in errors {
            let line = self.line_of(error.span().map_or(0, |span| span.start));
            self.findings.syntax(line, error.message());
        }
        table
    }

    fn algorithm(&mut self, field: Field<'_>) -> Option<Algorithm> {
        let text = self.text("Algorithm", field)?;
        let known = Algorithm::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(text));
        if known.is_none() {
            let message =
                format!("{} is no algorithm: choose ring, keyrouter-0.2 or rendezvous", quoted(text));
            self.findings.error(field.line, message);
        }
        known
    }

    fn services(&mut self, field: Field<'_>, default: Option<Algorithm>) -> Vec<ServiceSpec> {
        let DeValue::Array(items) = field.value.get_ref() else {
            let noun = noun(field.value.get_ref());
            let message =
                format!("'Services' has to be a list of tables, each begun by [[Services]], not {noun}");
            self.findings.error(field.line, message);
            return Vec::new();
        };
        let mut services = Vec::with_capacity(items.len());
        let mut lines: HashMap<&str, usize> = HashMap::with_capacity(items.len());
        for item in items.iter() {
            if self.findings.is_full() {
                break;
            }
            let line = self.line_of(item.span().start);
            let DeValue::Table(table) = item.get_ref() else {
                let message = format!("'Services' holds tables, not {}", noun(item.get_ref()));
                self.findings.error(line, message);
                continue;
            };
            let Some((name, service)) = self.service(table, line, default) else { continue };
            match lines.get(name) {
                None => {
                    lines.insert(name, line);
                    services.push(service);
                }
                Some(first) => {
                    let message =
                        format!("service {} stands on line {first} already: merge the two", quoted(name));
                    self.findings.error(line, message);
                }
            }
        }
        services
    }

    fn service<'t>(
        &mut self,
        table: &'t DeTable<'t>,
        line: usize,
        default: Option<Algorithm>,
    ) -> Option<(&'t str, ServiceSpec)> {
        let [name, algorithm, nodes] = self.fields(table, ["Name", "Algorithm", "Nodes"]);
        if name.is_none() && !self.findings.has_syntax_errors() {
            let message = "a service without a name: write Name = \"...\" (Name = \"\" is allowed)";
            self.findings.error(line, message.to_owned());
        }
        let name = name.and_then(|field| self.text("Name", field));
        let own = algorithm.map(|field| self.algorithm(field));
        let called = name.unwrap_or("without a name");
        let nodes = nodes.map(|field| self.nodes(called, field, own.unwrap_or(default)));
        let name = name?;
        let nodes = nodes.unwrap_or_default();
        Some((name, ServiceSpec { name: name.into(), algorithm: own.flatten(), nodes, line }))
    }
}
