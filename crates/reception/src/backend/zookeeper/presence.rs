//! Records: ephemeral nodes that are found again by a guid in their name.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use supervise::Boottime;
use zookeeper_client::{
    Acls, Client, CreateMode, CreateOptions, SessionId, Stat, StateWatcher, WatchedEvent,
};

use super::node::{NodeName, escaped, random_guid, stem};
use super::read::children;
use super::session::Sessions;
use crate::backend::{BackendFuture, Presence, Renewal, Tenure};
use crate::error::Error;
use crate::record;
use crate::service::Service;

const PARENT: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());
const RECORD: CreateOptions<'static> = CreateMode::EphemeralSequential.with_acls(Acls::anyone_all());
/// The longest sessions that servers give unless they are told otherwise: 20 ticks of 2 s.
const USUAL_LONGEST: Duration = Duration::from_secs(40);
/// Between two tries to take a record away that was dropped.
const PAUSE: Duration = Duration::from_secs(1);

/// By what a renewal is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// The record stands on a server that has what the leader had committed when it was asked.
    Synced,
    /// It stands for a majority: an empty transaction on it was committed. Costs a write, and is what a leader needs: one server that
    /// is cut off together with its client would go on saying that all is well.
    Committed,
}

/// A record, or the wish for one.
pub(super) struct Record {
    own: Own,
    service: Service,
    proof: Proof,
    /// Whether a node of ours may be there that is not in `held`, or no longer ours.
    perhaps: bool,
    held: Option<Held>,
}

/// By what our nodes are found.
#[derive(Clone)]
struct Own {
    sessions: Arc<Sessions>,
    parent: String,
    guid: String,
}

type Gone = Pin<Box<dyn Future<Output = WatchedEvent> + Send + Sync>>;

struct Held {
    path: String,
    created: u64,
    owner: SessionId,
    until: Boottime,
    /// The dial that `gone` and `link` belong to.
    nth: u64,
    /// Ends when the node was deleted or written to.
    gone: Option<Gone>,
    link: StateWatcher,
}

impl Record {
    pub(super) fn new(sessions: &Arc<Sessions>, parent: &str, service: &Service, proof: Proof) -> Self {
        let own = Own { sessions: Arc::clone(sessions), parent: parent.to_owned(), guid: random_guid() };
        Self { own, service: service.clone(), proof, perhaps: false, held: None }
    }

    async fn put(&mut self) -> Result<Tenure, Error> {
        let attached = self.own.sessions.attached().await?;
        let mut before = if self.perhaps { self.own.nodes(&attached.client).await? } else { Vec::new() };
        let found = self.own.take_ours(&attached.client, &mut before).await?;
        let sent = Boottime::now();
        let (path, stat) = match found {
            Some(found) => found,
            None => {
                self.perhaps = true;
                self.create(&attached.client).await?
            }
        };
        // The watch comes after the node; by its answer it is known to stand.
        let watching = attached.client.check_and_watch_stat(&path);
        let answer = self.own.sessions.ask(watching).await?;
        let Some((Some(_), gone)) = answer else {
            return Err(self.own.sessions.disconnected(format!("{path} was deleted at once")));
        };
        let (created, owner) = (stat.czxid.unsigned_abs(), attached.client.session_id());
        let until = attached.until(sent);
        self.held = Some(Held {
            path,
            created,
            owner,
            until,
            nth: attached.nth,
            gone: Some(Box::pin(gone.changed())),
            link: attached.client.state_watcher(),
        });
        // What sessions that we gave up left goes now: the other way round, an instance would be missed between the two.
        if let Err(error) = self.own.delete(&attached.client, &before).await {
            tracing::debug!(%error, "a record of an earlier session stays until that is over");
        }
        Ok(Tenure { created, until })
    }

    async fn create(&self, client: &Client) -> Result<(String, Stat), Error> {
        let stem = format!("{}/{}", self.own.parent, stem(&self.own.guid, &escaped(&self.service.id)));
        let value = record::encode(&self.service);
        let sessions = &self.own.sessions;
        let made = match sessions.ask(client.create(&stem, &value, &RECORD)).await? {
            Some(made) => Some(made),
            None => {
                sessions.ask(client.mkdir(&self.own.parent, &PARENT)).await?;
                sessions.ask(client.create(&stem, &value, &RECORD)).await?
            }
        };
        let (stat, sequence) = made
            .ok_or_else(|| sessions.disconnected(format!("{} is deleted time and again", self.own.parent)))?;
        Ok((format!("{stem}{sequence}"), stat))
    }

    async fn check(&mut self) -> Result<Renewal, Error> {
        let Some(held) = &mut self.held else {
            return Ok(Renewal::Lost("it was never entered".to_owned()));
        };
        let sessions = &self.own.sessions;
        let attached = sessions.attached().await?;
        if attached.client.session_id() != held.owner {
            return Ok(Renewal::Lost(format!("the session {} is over", held.owner)));
        }
        // Before the question: what happens from now on is an alarm.
        held.link = attached.client.state_watcher();
        let sent = Boottime::now();
        let stands = match self.proof {
            Proof::Committed => sessions.ask(committed(&attached.client, &held.path)).await?.is_some(),
            Proof::Synced => sessions.ask(attached.client.sync(&held.path)).await?.is_some(),
        };
        if !stands {
            return Ok(Renewal::Lost(format!("{} is gone", held.path)));
        }
        let rearm = held.gone.is_none() || held.nth != attached.nth;
        let stat = if rearm {
            let answer = sessions.ask(attached.client.check_and_watch_stat(&held.path)).await?;
            answer.and_then(|(stat, gone)| {
                held.gone = Some(Box::pin(gone.changed()));
                held.nth = attached.nth;
                stat
            })
        } else {
            sessions.ask(attached.client.check_stat(&held.path)).await?.flatten()
        };
        let ours =
            |stat: &Stat| stat.ephemeral_owner == held.owner.0 && stat.czxid.unsigned_abs() == held.created;
        if !stat.as_ref().is_some_and(ours) {
            return Ok(Renewal::Lost(format!("{} is gone", held.path)));
        }
        held.until = held.until.max(attached.until(sent));
        Ok(Renewal::Kept(held.until))
    }
}

/// A transaction that does nothing but need the node.
async fn committed(client: &Client, path: &str) -> Result<(), zookeeper_client::Error> {
    const ANY_VERSION: i32 = -1;
    let mut writer = client.new_multi_writer();
    writer.add_check_version(path, ANY_VERSION)?;
    writer.commit().await?;
    Ok(())
}

impl Own {
    /// The paths of all nodes of ours, of whatever session.
    async fn nodes(&self, client: &Client) -> Result<Vec<String>, Error> {
        let nodes = children(&self.sessions, client, &self.parent).await?;
        let ours =
            nodes.iter().filter(|node| NodeName::parse(node).is_some_and(|node| node.guid == self.guid));
        Ok(ours.map(|node| format!("{}/{node}", self.parent)).collect())
    }

    /// Takes from nodes of ours the one of this session, which an unanswered request made.
    async fn take_ours(
        &self,
        client: &Client,
        nodes: &mut Vec<String>,
    ) -> Result<Option<(String, Stat)>, Error> {
        for (at, path) in nodes.iter().enumerate() {
            if let Some(stat) = self.sessions.ask(client.check_stat(path)).await?.flatten()
                && stat.ephemeral_owner == client.session_id().0
            {
                return Ok(Some((nodes.remove(at), stat)));
            }
        }
        Ok(None)
    }

    /// Deletes nodes of ours: the guid in their names is nobody else's.
    async fn delete(&self, client: &Client, nodes: &[String]) -> Result<(), Error> {
        for path in nodes {
            self.sessions.ask(client.delete(path, None)).await?;
        }
        Ok(())
    }

    async fn remove(&self, client: &Client) -> Result<(), Error> {
        self.delete(client, &self.nodes(client).await?).await
    }
}

impl Presence for Record {
    fn enter(&mut self) -> BackendFuture<'_, Result<Tenure, Error>> {
        self.held = None;
        Box::pin(self.put())
    }

    fn renew(&mut self) -> BackendFuture<'_, Result<Renewal, Error>> {
        Box::pin(self.check())
    }

    fn renew_every(&self) -> Duration {
        let (asked, given) = self.own.sessions.times();
        given.unwrap_or(asked.min(USUAL_LONGEST)) / 5
    }

    fn alarm(&mut self) -> BackendFuture<'_, ()> {
        Box::pin(async move {
            let Some(Held { gone, link, .. }) = &mut self.held else {
                return std::future::pending().await;
            };
            let deleted = async {
                match gone.as_mut() {
                    Some(event) => drop(event.await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = deleted => *gone = None,
                _ = link.changed() => {}
            }
        })
    }

    fn leave(&mut self) -> BackendFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            if self.perhaps {
                let attached = self.own.sessions.attached().await?;
                self.own.remove(&attached.client).await?;
            }
            (self.held, self.perhaps) = (None, false);
            Ok(())
        })
    }
}

impl Drop for Record {
    /// The session goes on for other records. This one ends no earlier than if the process had died: whoever works under it was
    /// told that instant.
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.perhaps {
            let until = self.held.as_ref().map_or(Boottime::from_nanos(0), |held| held.until);
            runtime.spawn(end(self.own.clone(), until));
        }
    }
}

/// Takes the record away after that instant, as long as its session may live.
async fn end(own: Own, until: Boottime) {
    while Boottime::now() < until {
        tokio::time::sleep(until.since(Boottime::now()).min(PAUSE)).await;
    }
    while let Err(error) = async { own.remove(&own.sessions.attached().await?.client).await }.await {
        tracing::debug!(%error, "a record that was dropped cannot be taken away yet");
        tokio::time::sleep(PAUSE).await;
    }
}
