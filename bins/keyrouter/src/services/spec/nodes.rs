//! The nodes of one service.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use common::ring::{Algorithm, MAX_NODES, MAX_NODES_KEYROUTER_02, MAX_WEIGHT, MIN_WEIGHT};
use toml::Spanned;
use toml::de::DeValue;

use super::super::quote::quoted;
use super::reader::Reader;
use super::table::{Field, noun};

/// What the file says about one node.
struct Node<'a> {
    address: &'a str,
    weight: f64,
    line: usize,
}

impl Reader<'_, '_> {
    /// The nodes of `service`. Without an `algorithm`, nothing is checked that depends on it.
    pub(super) fn nodes(
        &mut self,
        service: &str,
        field: Field<'_>,
        algorithm: Option<Algorithm>,
    ) -> Vec<(Box<str>, f64)> {
        let DeValue::Array(items) = field.value.get_ref() else {
            let message = format!("'Nodes' has to be a list, not {}", noun(field.value.get_ref()));
            self.findings.error(field.line, message);
            return Vec::new();
        };
        let limit = match algorithm {
            Some(Algorithm::Keyrouter02) => MAX_NODES_KEYROUTER_02,
            _ => MAX_NODES,
        };
        let expected = items.len().min(limit);
        let mut nodes = Vec::with_capacity(expected);
        let mut seen: HashMap<&str, (usize, f64)> = HashMap::with_capacity(expected);
        for item in items.iter() {
            if self.findings.is_full() {
                break;
            }
            let Some(node) = self.node(item) else { continue };
            match seen.entry(node.address) {
                Entry::Occupied(first) => self.repeated(service, &node, *first.get()),
                Entry::Vacant(_) if nodes.len() == limit => {
                    let message = format!(
                        "service {} has more nodes than the {limit} that its algorithm can hold",
                        quoted(service)
                    );
                    self.findings.error(field.line, message);
                    break;
                }
                Entry::Vacant(place) => {
                    place.insert((node.line, node.weight));
                    self.check(&node, algorithm);
                    nodes.push((node.address.into(), node.weight));
                }
            }
        }
        nodes
    }

    /// `"a:1"`, or `{ Address = "a:1", Weight = 2 }`.
    fn node<'t>(&mut self, item: &'t Spanned<DeValue<'t>>) -> Option<Node<'t>> {
        let line = self.line_of(item.span().start);
        match item.get_ref() {
            DeValue::String(address) => Some(Node { address, weight: 1.0, line }),
            DeValue::Table(table) => {
                let [address, weight] = self.fields(table, ["Address", "Weight"]);
                let weight = weight.map_or(Some(1.0), |field| self.weight(field));
                let Some(address) = address else {
                    let message = "a node without an address: write { Address = \"...\" }";
                    self.findings.error(line, message.to_owned());
                    return None;
                };
                let address = self.text("Address", address)?;
                Some(Node { address, weight: weight?, line })
            }
            other => {
                let message = format!("'Nodes' holds addresses, not {}", noun(other));
                self.findings.error(line, message);
                None
            }
        }
    }

    fn weight(&mut self, field: Field<'_>) -> Option<f64> {
        let number = match field.value.get_ref() {
            DeValue::Integer(number) => {
                // One too large for the type is out of range in any case.
                i64::from_str_radix(number.as_str(), number.radix())
                    .map_or(f64::INFINITY, |number| number as f64)
            }
            DeValue::Float(number) => number.as_str().parse().unwrap_or(f64::NAN),
            other => {
                let message = format!("'Weight' has to be a number, not {}", noun(other));
                self.findings.error(field.line, message);
                return None;
            }
        };
        // A range holds no NaN.
        if (MIN_WEIGHT..=MAX_WEIGHT).contains(&number) {
            return Some(number);
        }
        let message = format!("'Weight' has to be a number from {MIN_WEIGHT} to {MAX_WEIGHT}");
        self.findings.error(field.line, message);
        None
    }

    fn check(&mut self, node: &Node<'_>, algorithm: Option<Algorithm>) {
        let original = algorithm == Some(Algorithm::Keyrouter02);
        if original && node.weight != 1.0 {
            let message = format!(
                "node {} has weight {}, and keyrouter-0.2 knows no weights: leave it out, or choose ring or \
                 rendezvous",
                quoted(node.address),
                node.weight
            );
            self.findings.error(node.line, message);
        }
        if node.address.is_empty() {
            let message = "a node with an empty address: write one, or leave the node out".to_owned();
            match algorithm {
                Some(Algorithm::Keyrouter02) => self.findings.warning(node.line, message),
                Some(_) => self.findings.error(node.line, message),
                None => {}
            }
        } else if node.address.trim() != node.address {
            let message = format!("node {} begins or ends with white space", quoted(node.address));
            self.findings.warning(node.line, message);
        }
    }

    fn repeated(&mut self, service: &str, node: &Node<'_>, (line, weight): (usize, f64)) {
        let (address, service) = (quoted(node.address), quoted(service));
        if weight == node.weight {
            let message =
                format!("node {address} of service {service} stands on line {line} already: it counts once");
            self.findings.warning(node.line, message);
        } else {
            let message = format!(
                "node {address} of service {service} has weight {}, and weight {weight} on line {line}: keep one",
                node.weight
            );
            self.findings.error(node.line, message);
        }
    }
}
