//! The query of a request.

use common::node::NodeId;
use http::Uri;
use percent_encoding::percent_decode_str;

use super::fault::Fault;

/// The parameters of a query.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Of a request; a form's `+` is a space.
    pub(super) fn of(uri: &Uri) -> Self {
        let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let split = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(&key.replace('+', " ")), decode(&value.replace('+', " ")))
        };
        Self(pairs.map(split).collect())
    }

    /// The first value of a parameter; an empty one is as good as none.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Whether a switch is on. Nothing but `true` turns one on, so that no spelling drops updates by surprise.
    pub(super) fn on(&self, key: &str) -> bool {
        self.get(key) == Some("true")
    }

    /// The node that `node=` names.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn node(&self) -> Result<Option<NodeId>, Fault> {
        self.get("node").map(|text| address("node", text)).transpose()
    }
}

/// `HOST:PORT` in one piece; `what` says where it stands.
///
/// # Errors
/// When it is no node.
pub(super) fn address(what: &str, text: &str) -> Result<NodeId, Fault> {
    text.parse::<NodeId>().map_err(|error| Fault::unrecognized(what, error.to_string()))
}

/// Undoes escapes.
pub(super) fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_true_switches_on() {
        let on = |target: &str| Query::of(&target.parse().unwrap()).on("discard");
        assert!(on("/nodes?discard=true") && on("/nodes?a&discard=tru%65&discard=false"));
        assert!(
            !on("/nodes") && !on("/nodes?discard") && !on("/nodes?discard=1") && !on("/nodes?discard=TRUE")
        );
    }
}
