//! Sessions: what locks on keys hang on.

use std::time::Duration;

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use crate::client::{Consul, part};
use crate::error::ConsulError;
use crate::query::{Query, Reply, millis};

/// What becomes of a session's keys when it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Behavior {
    /// They stay and are nobody's.
    #[default]
    Release,
    /// They go.
    Delete,
}

/// A session to be made. It carries no checks: only its TTL and its destruction end it, and its node's leaving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSession {
    /// For people.
    pub name: String,
    /// 10 s to 24 h. The server ends it this long after the last renewal at the earliest, and takes twice as long.
    pub ttl: Duration,
    /// How long nobody can lock its keys after it has ended without unlocking them: up to 60 s.
    pub lock_delay: Duration,
    /// What becomes of its keys.
    pub behavior: Behavior,
}

/// A session as the server knows it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Session {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// For people.
    #[serde(default)]
    pub name: String,
    /// The agent through which it was made.
    pub node: String,
    /// As it was asked for, in Consul's spelling.
    #[serde(rename = "TTL", default)]
    pub ttl: String,
    /// What becomes of its keys.
    pub behavior: Behavior,
    /// When it was made, in the order of the servers' log.
    pub create_index: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Body<'a> {
    name: &'a str,
    #[serde(rename = "TTL")]
    ttl: String,
    lock_delay: String,
    behavior: Behavior,
    // Left out, the node's own check would be put in; servers before 1.7 know it by the second name.
    node_checks: [&'a str; 0],
    checks: [&'a str; 0],
}

#[derive(Deserialize)]
struct Made {
    #[serde(rename = "ID")]
    id: String,
}

impl Consul {
    /// Makes a session and gives its id.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn create_session(&self, session: &NewSession) -> Result<String, ConsulError> {
        let NewSession { name, ttl, lock_delay, behavior } = session;
        let (ttl, lock_delay) = (millis(*ttl), millis(*lock_delay));
        let body = Body { name, ttl, lock_delay, behavior: *behavior, node_checks: [], checks: [] };
        let body = serde_json::to_vec(&body).map_err(|error| ConsulError::Config(error.to_string()))?;
        let call = self.call(Method::PUT, "making a session", "/v1/session/create").body(body);
        Ok(self.read::<Made>(call).await?.id)
    }

    /// Makes a session last for another TTL. False when it has ended.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn renew_session(&self, id: &str) -> Result<bool, ConsulError> {
        let path = format!("/v1/session/renew/{}", part(id)?);
        let answer = self.send(self.call(Method::PUT, "renewing a session", path)).await?;
        Ok(answer.status != StatusCode::NOT_FOUND)
    }

    /// Ends a session; one that has ended already is no error.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn destroy_session(&self, id: &str) -> Result<(), ConsulError> {
        let path = format!("/v1/session/destroy/{}", part(id)?);
        self.send_found(self.call(Method::PUT, "ending a session", path)).await.map(drop)
    }

    /// A session; none when there is none of this id.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn session_info(&self, id: &str, query: Query) -> Result<Reply<Option<Session>>, ConsulError> {
        let path = format!("/v1/session/info/{}", part(id)?);
        let call = self.call(Method::GET, "looking at a session", path);
        let Reply { value, index, known_leader, last_contact, date } =
            self.list::<Option<Vec<Session>>>(call, query).await?;
        let value = value.unwrap_or_default().into_iter().next();
        Ok(Reply { value, index, known_leader, last_contact, date })
    }
}
