//! Files by a template of the operator's.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use common::node::NodeId;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use reception::Service;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::decide::Picture;

/// The largest template, in bytes.
const LARGEST: u64 = 1 << 20;
/// The steps that a template may take: 10,000 instances in 10 loops of 100 steps each.
const STEPS: u64 = 10_000_000;

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}: {what}", if *line == 0 { String::new() } else { format!(":{line}") })]
pub struct TemplateError {
    /// The template's file.
    pub file: String,
    /// Counted from 1; 0 stands for the file as a whole.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

/// A template whose syntax is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    file: Arc<str>,
    source: Arc<str>,
}

/// What a template sees.
#[derive(Serialize)]
struct Context<'a> {
    services: BTreeMap<&'a str, Vec<Instance<'a>>>,
    index: u64,
}

#[derive(Serialize)]
struct Instance<'a> {
    id: &'a str,
    address: &'a str,
    port: u16,
    /// Address and port as a URL has them.
    authority: String,
    attributes: &'a BTreeMap<String, String>,
}

impl Template {
    /// Reads a template and checks its syntax.
    ///
    /// # Errors
    /// [`TemplateError`], with the line.
    pub fn read(path: &Path) -> Result<Self, TemplateError> {
        let file: Arc<str> = path.display().to_string().into();
        let wrong = |what: String| TemplateError { file: file.to_string(), line: 0, what };
        let size = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
        if size > LARGEST {
            return Err(wrong(format!("it has {size} bytes, {LARGEST} are the most")));
        }
        let source = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let template = Self { file: file.clone(), source: source.into() };
        template.environment()?;
        Ok(template)
    }

    /// The file's content.
    ///
    /// # Errors
    /// [`TemplateError`], as for something that is asked for and not there.
    pub fn render(&self, picture: &Picture) -> Result<String, TemplateError> {
        let environment = self.environment()?;
        let template = environment.get_template(&self.file).map_err(|error| self.wrong(&error))?;
        let services =
            picture.iter().map(|(name, list)| (name.as_str(), list.iter().map(instance).collect()));
        let context = Context { services: services.collect(), index: index(picture) };
        template.render(Serde(context)).map_err(|error| self.wrong(&error))
    }

    fn environment(&self) -> Result<Environment<'_>, TemplateError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        // What is written is no HTML, whatever its name.
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        // A line that only holds a tag leaves nothing behind.
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .keep_trailing_newline(true)
            .build()
            .map_err(|error| self.wrong(&error))?;
        environment.set_syntax(syntax);
        environment.set_fuel(Some(STEPS));
        environment.add_template(&self.file, &self.source).map_err(|error| self.wrong(&error))?;
        Ok(environment)
    }

    fn wrong(&self, error: &minijinja::Error) -> TemplateError {
        let mut what = error.kind().to_string();
        if let Some(detail) = error.detail() {
            what = format!("{what}: {detail}");
        }
        TemplateError { file: self.file.to_string(), line: error.line().unwrap_or(0), what }
    }
}

fn instance(service: &Service) -> Instance<'_> {
    Instance {
        id: &service.id,
        address: &service.address,
        port: service.port,
        authority: authority(service),
        attributes: &service.attributes,
    }
}

/// `host:port`, an IPv6 address in brackets; without a port, the address alone.
pub(super) fn authority(service: &Service) -> String {
    match NodeId::new(&service.address, service.port) {
        Ok(node) => node.to_string(),
        Err(_) if service.port == 0 => service.address.clone(),
        Err(_) => format!("{}:{}", service.address, service.port),
    }
}

/// A number for the picture, the same for the same one: below 2^48, which fits any reader's numbers.
fn index(picture: &Picture) -> u64 {
    // Maps of texts to lists of texts and numbers: there is nothing in them that JSON lacks.
    let json = serde_json::to_vec(picture).unwrap_or_default();
    Sha256::digest(json)[..6].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(source: &str) -> Template {
        Template { file: "t.conf".into(), source: source.into() }
    }

    fn picture() -> Picture {
        let web = |address: &str, zone: &str| {
            let attributes = [("zone".to_owned(), zone.to_owned())].into();
            Service::new("web", address, 80).unwrap().with_attributes(attributes).unwrap()
        };
        [("web".to_owned(), vec![web("10.0.0.1", "<a>"), web("::1", "b")]), ("db".to_owned(), vec![])].into()
    }

    #[test]
    fn a_template_sees_all_of_a_service() {
        let source = "{% for i in services.web %}\nserver {{ i.authority }}; # {{ i.attributes.zone }}\n{% endfor %}\n\
                      {{ services.db | length }} {{ services['web'][0].port + 1 }} {{ services.web[1].address | tojson }}\n";
        let text = template(source).render(&picture()).unwrap();
        assert_eq!(text, "server 10.0.0.1:80; # <a>\nserver [::1]:80; # b\n0 81 \"::1\"\n");
    }

    #[test]
    fn what_is_not_there_is_an_error_with_its_line() {
        let error = template("ok\n{{ services.api }}\n").render(&picture()).unwrap_err();
        assert_eq!(error.line, 2, "{error}");
        assert!(error.to_string().starts_with("t.conf:2: undefined value"), "{error}");
        let loops = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
        assert!(template(loops).render(&picture()).is_err(), "a template without end");
    }

    #[test]
    fn wrong_syntax_is_found_when_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        std::fs::write(&path, "a\nb\n{% for x in %}\n").unwrap();
        let error = Template::read(&path).unwrap_err();
        assert_eq!(error.line, 3, "{error}");
        assert!(error.to_string().contains("/t:3: "), "{error}");
        assert_eq!(Template::read(&dir.path().join("none")).unwrap_err().line, 0);
        std::fs::write(&path, vec![b'x'; (LARGEST + 1) as usize]).unwrap();
        assert!(Template::read(&path).unwrap_err().what.contains("1048576 are the most"));
    }

    #[test]
    fn the_index_is_the_pictures_own() {
        let one = picture();
        assert_eq!(index(&one), index(&one.clone()));
        let mut other = one.clone();
        other.get_mut("web").unwrap()[0].port = 81;
        assert_ne!(index(&one), index(&other));
        other = one.clone();
        other.insert("x".into(), vec![]);
        assert_ne!(index(&one), index(&other));
        assert!(index(&one) < 1 << 48);
        let text = template("{{ index }}").render(&one).unwrap();
        assert_eq!(text, index(&one).to_string());
    }
}
