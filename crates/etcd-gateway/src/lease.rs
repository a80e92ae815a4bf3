//! Leases: what keys hang on that are to go with their owner.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use crate::client::Etcd;
use crate::error::EtcdError;
use crate::wire::number;

/// gRPC's number for what does not exist.
const NOT_FOUND: u32 = 5;

/// The name of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseId(pub i64);

#[derive(Deserialize)]
struct Granted {
    #[serde(rename = "ID", default, deserialize_with = "number")]
    id: i64,
    #[serde(rename = "TTL", default, deserialize_with = "number")]
    ttl: i64,
}

#[derive(Deserialize)]
struct Kept {
    result: Granted,
}

impl Etcd {
    /// A lease for this time, in whole seconds; the time that the server gave, which may be longer.
    ///
    /// # Errors
    /// [`EtcdError`].
    pub async fn grant(&self, ttl: Duration) -> Result<(LeaseId, Duration), EtcdError> {
        let body = json!({ "TTL": ttl.as_secs().to_string() });
        let (granted, _) = self.call::<Granted>("granting a lease", "/v3/lease/grant", &body).await?;
        Ok((LeaseId(granted.id), Duration::from_secs(granted.ttl.max(0).unsigned_abs())))
    }

    /// Makes a lease last for another of its times. False when it has ended.
    ///
    /// # Errors
    /// [`EtcdError`].
    pub async fn keep_alive(&self, lease: LeaseId) -> Result<bool, EtcdError> {
        let body = json!({ "ID": lease.0.to_string() });
        let (kept, _) = self.call::<Kept>("keeping a lease", "/v3/lease/keepalive", &body).await?;
        // One that has ended is answered without a time, not with an error.
        Ok(kept.result.ttl > 0)
    }

    /// Ends a lease, and with it its keys; one that has ended already is no error.
    ///
    /// # Errors
    /// [`EtcdError`].
    pub async fn revoke(&self, lease: LeaseId) -> Result<(), EtcdError> {
        let body = json!({ "ID": lease.0.to_string() });
        match self.call::<serde_json::Value>("ending a lease", "/v3/lease/revoke", &body).await {
            Ok(_) | Err(EtcdError::Refused { code: NOT_FOUND, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
