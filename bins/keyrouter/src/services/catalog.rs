//! What lookups use: the rings of all services and the JSON of their nodes, built once, never changed.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use common::ring::{Algorithm, Rings, Router as _};
use http::HeaderValue;
use jiff::Timestamp;

use super::error::Error;
use super::json::escape_into;
use super::spec::{ServiceSpec, Spec};

/// All services of one load of the file.
#[derive(Debug)]
pub struct Catalog {
    /// In the order of the file.
    services: Vec<Arc<Service>>,
    by_name: HashMap<Box<str>, usize>,
    names_json: Bytes,
    node_count: usize,
}

impl Catalog {
    /// The catalog of `spec`. What is as it was in `previous` is shared with it instead of built.
    ///
    /// `default` is the algorithm of services for which the file names none; `load` the number of this
    /// load, greater than that of any before.
    ///
    /// # Errors
    /// Nodes that make no ring; a spec that was parsed for this `default` has none.
    pub fn build(
        spec: &Spec,
        default: Algorithm,
        previous: Option<&Self>,
        load: u64,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let build = |service: &ServiceSpec| {
            let previous = previous.and_then(|catalog| catalog.service(&service.name));
            Service::build(service, spec.algorithm_of(service, default), previous, load, now)
        };
        let services = spec.services.iter().map(build).collect::<Result<Vec<_>, _>>()?;
        let by_name = services.iter().enumerate().map(|(index, service)| (service.name.clone(), index));
        let mut names = vec![b'['];
        for service in &services {
            escape_into(&service.name, &mut names);
            names.push(b',');
        }
        close_list(&mut names);
        names.push(b'\n');
        Ok(Self {
            by_name: by_name.collect(),
            names_json: names.into(),
            node_count: spec.node_count(),
            services,
        })
    }

    /// The service of this name.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        self.by_name.get(name).map(|&index| &self.services[index])
    }

    /// All services in the order of the file.
    #[must_use]
    pub fn services(&self) -> &[Arc<Service>] {
        &self.services
    }

    /// Their names in that order: `["a","b"]` and a newline.
    #[must_use]
    pub fn names_json(&self) -> &Bytes {
        &self.names_json
    }

    /// How many nodes all services have together.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.node_count
    }
}

/// One service, ready for lookups.
#[derive(Debug)]
pub struct Service {
    /// Its name, which may be empty.
    pub name: Box<str>,
    /// How keys find its nodes.
    pub algorithm: Algorithm,
    /// The number of the load that last changed its algorithm or nodes. Their order does not count.
    pub generation: u64,
    /// The same as the value of a header.
    pub generation_header: HeaderValue,
    /// When that load was.
    pub loaded_at: Timestamp,
    /// Its nodes; indices of answers are places in the file.
    pub rings: Rings,
    /// Each node's name as JSON and a comma, one after the other.
    fragments: Box<[u8]>,
    /// Where each of them begins, and where the last one ends.
    offsets: Box<[usize]>,
}

impl Service {
    fn build(
        spec: &ServiceSpec,
        algorithm: Algorithm,
        previous: Option<&Arc<Self>>,
        load: u64,
        now: Timestamp,
    ) -> Result<Arc<Self>, Error> {
        let previous = previous.filter(|service| service.algorithm == algorithm);
        if let Some(same) = previous.filter(|service| service.has_in_order(&spec.nodes)) {
            return Ok(Arc::clone(same));
        }
        let same_set = previous.filter(|service| service.has_in_any_order(&spec.nodes));
        let (generation, loaded_at) =
            same_set.map_or((load, now), |service| (service.generation, service.loaded_at));
        let rings = Rings::build(algorithm, &spec.nodes)
            .map_err(|source| Error::Roster { service: spec.name.clone(), source })?;
        let mut fragments = Vec::new();
        let mut offsets = vec![0];
        for (name, _) in &spec.nodes {
            escape_into(name, &mut fragments);
            fragments.push(b',');
            offsets.push(fragments.len());
        }
        Ok(Arc::new(Self {
            name: spec.name.clone(),
            algorithm,
            generation,
            generation_header: HeaderValue::from(generation),
            loaded_at,
            rings,
            fragments: fragments.into(),
            offsets: offsets.into(),
        }))
    }

    /// Its nodes with their weights, in the order of the file.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, f64)> {
        (0u32..).map_while(|index| Some((self.rings.name(index)?, self.rings.weight(index)?)))
    }

    fn has_in_order(&self, nodes: &[(Box<str>, f64)]) -> bool {
        self.nodes().eq(nodes.iter().map(|(name, weight)| (&**name, *weight)))
    }

    fn has_in_any_order(&self, nodes: &[(Box<str>, f64)]) -> bool {
        // No name stands twice on either side, so names decide the order.
        let by_name = |one: &(&str, f64), other: &(&str, f64)| one.0.cmp(other.0);
        let mut here: Vec<_> = self.nodes().collect();
        let mut there: Vec<_> = nodes.iter().map(|(name, weight)| (&**name, *weight)).collect();
        here.sort_unstable_by(by_name);
        there.sort_unstable_by(by_name);
        here == there
    }

    /// The name of the node at `index` as a JSON string.
    ///
    /// # Panics
    /// When there is no such node.
    #[must_use]
    pub fn fragment(&self, index: u32) -> &[u8] {
        let with_comma = self.with_comma(index);
        &with_comma[..with_comma.len() - 1]
    }

    /// How many bytes the names of all nodes take as JSON, with a comma each.
    #[must_use]
    pub fn names_length(&self) -> usize {
        self.fragments.len()
    }

    fn with_comma(&self, index: u32) -> &[u8] {
        let index = index as usize;
        &self.fragments[self.offsets[index]..self.offsets[index + 1]]
    }

    /// Appends the names of `nodes`, given as indices, as a JSON array. Allocates once at most.
    ///
    /// # Panics
    /// When there is no node of one of the indices.
    pub fn write_nodes(&self, nodes: &[u32], out: &mut Vec<u8>) {
        let length: usize = nodes.iter().map(|&index| self.with_comma(index).len()).sum();
        out.reserve(length + 2);
        out.push(b'[');
        nodes.iter().for_each(|&index| out.extend_from_slice(self.with_comma(index)));
        close_list(out);
    }

    /// All that is known about the service and its nodes, in the order of the file, as JSON with a newline.
    #[must_use]
    pub fn nodes_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.fragments.len() + 32 * self.rings.len() + 160);
        out.extend_from_slice(b"{\"name\":");
        escape_into(&self.name, &mut out);
        // Writing to a vector cannot fail.
        let _ = write!(
            out,
            ",\"algorithm\":\"{}\",\"generation\":{},\"loaded_at\":\"{}\",\"nodes\":[",
            self.algorithm, self.generation, self.loaded_at
        );
        for (index, (_, weight)) in (0u32..).zip(self.nodes()) {
            out.extend_from_slice(b"{\"address\":");
            out.extend_from_slice(self.fragment(index));
            let _ = write!(out, ",\"weight\":{weight}}},");
        }
        close_list(&mut out);
        out.extend_from_slice(b"}\n");
        out
    }
}

/// Ends a list whose members each have a comma behind them.
fn close_list(out: &mut Vec<u8>) {
    match out.last_mut() {
        Some(comma) if *comma == b',' => *comma = b']',
        _ => out.push(b']'),
    }
}

#[cfg(test)]
mod tests;
