//! What the whole datacenter runs.

use std::collections::BTreeMap;

use http::Method;
use serde::{Deserialize, Deserializer};

use crate::client::Consul;
use crate::error::ConsulError;
use crate::query::{Query, Reply};

impl Consul {
    /// The names of all services, each with every tag that an instance of it has.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn catalog_services(
        &self,
        query: Query,
    ) -> Result<Reply<BTreeMap<String, Vec<String>>>, ConsulError> {
        self.list(self.call(Method::GET, "listing all services", "/v1/catalog/services"), query).await
    }
}

/// Go writes null for a list or map that was never filled.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}
