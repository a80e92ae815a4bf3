//! keyrouter's file of services. Pure.
//!
//! Sorted by node, so that the order in which instances registered does not count, and a node that stands there
//! twice is one: keyrouter would warn of it.

use std::collections::BTreeMap;
use std::fmt::Write;

use common::ring::{MAX_WEIGHT, MIN_WEIGHT};
use reception::Service;

use super::decide::Picture;
use super::template::authority;

/// The attribute that says how many keys an instance owns, in shares.
const WEIGHT: &str = "weight";

/// The content of the file, and what is odd in the picture.
pub fn render(picture: &Picture) -> (String, Vec<String>) {
    let mut odd = Vec::new();
    let mut text = "# Written by reception-agent: what is edited here is lost.\n".to_owned();
    for (name, instances) in picture {
        // Writing to a text cannot fail.
        let _ = write!(text, "\n[[Services]]\nName = {}\nNodes = [", quoted(name));
        let mut nodes: BTreeMap<String, f64> = BTreeMap::new();
        for service in instances {
            let weight = weight(service).unwrap_or_else(|problem| {
                odd.push(problem);
                1.0
            });
            let heaviest = nodes.entry(authority(service)).or_insert(weight);
            *heaviest = heaviest.max(weight);
        }
        for (node, weight) in &nodes {
            let node = quoted(node);
            let _ = if *weight == 1.0 {
                write!(text, "\n    {node},")
            } else {
                write!(text, "\n    {{ Address = {node}, Weight = {weight} }},")
            };
        }
        text.push_str(if nodes.is_empty() { "]\n" } else { "\n]\n" });
    }
    (text, odd)
}

fn weight(service: &Service) -> Result<f64, String> {
    let Some(text) = service.attributes.get(WEIGHT) else { return Ok(1.0) };
    let number = text.trim().parse().ok().filter(|number| (MIN_WEIGHT..=MAX_WEIGHT).contains(number));
    number.ok_or_else(|| {
        format!(
            "the weight {text:?} of {} {} is no number from {MIN_WEIGHT} to {MAX_WEIGHT}: it counts as 1",
            service.name, service.id
        )
    })
}

/// As a text of TOML: what JSON escapes, TOML reads in the same way, and it wants one more escaped.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(name: &str, address: &str, port: u16, weight: Option<&str>) -> Service {
        let attributes = weight.map(|weight| (WEIGHT.to_owned(), weight.to_owned())).into_iter().collect();
        Service::new(name, address, port).unwrap().with_attributes(attributes).unwrap()
    }

    fn picture(name: &str, instances: Vec<Service>) -> Picture {
        [(name.to_owned(), instances)].into()
    }

    #[test]
    fn nodes_are_sorted_single_and_weighted() {
        let instances = vec![
            instance("web", "b", 80, None),
            instance("web", "::1", 80, Some("2")),
            instance("web", "b", 80, Some("0.5")),
            instance("web", "a", 0, None),
        ];
        let (text, odd) = render(&picture("web", instances));
        let want = "# Written by reception-agent: what is edited here is lost.\n\n[[Services]]\nName = \"web\"\n\
                    Nodes = [\n    { Address = \"[::1]:80\", Weight = 2 },\n    \"a\",\n    \"b:80\",\n]\n";
        assert_eq!((text.as_str(), odd.len()), (want, 0));
        assert!(render(&picture("none", vec![])).0.ends_with("Name = \"none\"\nNodes = []\n"));
    }

    #[test]
    fn a_weight_that_is_none_is_told_and_counts_as_one() {
        for bad in ["", "many", "0", "-1", "NaN", "inf", "1001"] {
            let (text, odd) = render(&picture("web", vec![instance("web", "a", 1, Some(bad))]));
            assert!(text.contains("\n    \"a:1\",\n") && odd.len() == 1, "{bad}: {text} {odd:?}");
        }
    }

    #[test]
    fn no_name_breaks_out_of_its_text() {
        for name in ["a\"b", "a\\", "ä😀", "]", "'''", "\u{7f}\u{1}\n\"]\n[[Services]]"] {
            let parsed: toml::Table = format!("a = {}", quoted(name)).parse().unwrap();
            assert_eq!(parsed["a"].as_str(), Some(name));
        }
    }
}
