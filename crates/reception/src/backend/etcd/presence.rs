//! A record: a key on a lease of its own.

use std::sync::Arc;
use std::time::Duration;

use etcd_gateway::{Compare, Etcd, Events, LeaseId, Put, Txn, Watch};
use supervise::Boottime;

use super::Store;
use crate::backend::line::unmarked;
use crate::backend::{BackendFuture, Presence, Renewal, Tenure};
use crate::error::Error;
use crate::record;
use crate::service::Service;

/// How often a key that changes between looking and writing is looked at.
const LOOKS: u32 = 8;
/// Before a watch that broke is begun anew.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Registered {
    store: Arc<Store>,
    /// For people.
    id: String,
    key: String,
    value: Vec<u8>,
    lease: Option<LeaseId>,
    /// What tells that the key goes, from this revision on; none while there is nothing to lose.
    watch_from: Option<i64>,
    watch: Option<Watch>,
}

impl Registered {
    pub(super) fn new(store: Arc<Store>, service: &Service) -> Self {
        let key = format!("{}{}", store.folder(&service.name), service.id);
        let (id, value) = (unmarked(&service.id).to_owned(), record::encode(service));
        Self { store, id, key, value, lease: None, watch_from: None, watch: None }
    }

    /// The lease of an earlier entry if it stands, or a new one.
    async fn lease(&mut self) -> Result<LeaseId, Error> {
        let store = self.store.clone();
        if let Some(lease) = self.lease
            && store.ask(async |etcd: Etcd| etcd.keep_alive(lease).await).await?
        {
            return Ok(lease);
        }
        let ttl = store.options.ttl;
        let (lease, given) = store.ask(async |etcd: Etcd| etcd.grant(ttl).await).await?;
        if given > ttl {
            tracing::warn!(asked = ?ttl, ?given, "etcd gives no shorter leases: the dead are listed for longer");
        }
        self.lease = Some(lease);
        Ok(lease)
    }

    /// Puts the key there under this lease; the revision of its creation. One of another lease is taken away first, rather than
    /// written over: it would keep its place in the order.
    async fn put(&self, lease: LeaseId) -> Result<i64, Error> {
        let (store, key) = (&self.store, self.key.as_bytes());
        for _ in 0..LOOKS {
            let mut txn = Txn::default();
            let puts = match store.ask(async |etcd: Etcd| etcd.get(key).await).await? {
                Some(entry) if entry.lease == lease.0 => return Ok(entry.create_revision),
                Some(entry) => {
                    txn.when.push(Compare::Unchanged(key.to_vec(), entry.mod_revision));
                    txn.delete.push(key.to_vec());
                    false
                }
                None => {
                    let (key, value) = (key.to_vec(), self.value.clone());
                    txn.when.push(Compare::Missing(key.clone()));
                    txn.put.push(Put { key, value, lease: Some(lease) });
                    true
                }
            };
            let made = store.ask(async |etcd: Etcd| etcd.commit(&txn).await).await?;
            if puts && made.succeeded {
                return Ok(made.revision);
            }
        }
        let what =
            format!("others register {} at the same time; give each instance an id of its own", self.key);
        Err(Error::Disconnected { backend: store.address(), what })
    }

    fn lost(&mut self, why: String) -> Renewal {
        (self.watch_from, self.watch) = (None, None);
        Renewal::Lost(why)
    }
}

impl Presence for Registered {
    fn enter(&mut self) -> BackendFuture<'_, Result<Tenure, Error>> {
        Box::pin(async move {
            (self.watch_from, self.watch) = (None, None);
            let sent = Boottime::now();
            let lease = self.lease().await?;
            let created = self.put(lease).await?;
            self.watch_from = Some(created + 1);
            Ok(Tenure { created: created.unsigned_abs(), until: sent + self.store.options.ttl })
        })
    }

    fn renew(&mut self) -> BackendFuture<'_, Result<Renewal, Error>> {
        Box::pin(async move {
            let Some(lease) = self.lease else { return Ok(self.lost("it has no lease".to_owned())) };
            let (sent, store) = (Boottime::now(), self.store.clone());
            let key = self.key.as_bytes();
            let (kept, entry) = tokio::join!(
                store.ask(async |etcd: Etcd| etcd.keep_alive(lease).await),
                store.ask(async |etcd: Etcd| etcd.get(key).await),
            );
            if !kept? {
                self.lease = None;
                return Ok(self.lost(format!("the lease of {} ended", self.id)));
            }
            match entry? {
                Some(entry) if entry.lease == lease.0 => Ok(Renewal::Kept(sent + store.options.ttl)),
                Some(_) => Ok(self.lost(format!("another process registered as {}", self.id))),
                None => Ok(self.lost(format!("somebody deleted the record of {}", self.id))),
            }
        })
    }

    fn renew_every(&self) -> Duration {
        self.store.options.ttl / 3
    }

    fn alarm(&mut self) -> BackendFuture<'_, ()> {
        Box::pin(async move {
            loop {
                let (Some(from), Some(lease)) = (self.watch_from, self.lease) else {
                    return std::future::pending().await;
                };
                let key = self.key.as_bytes();
                let told = match &mut self.watch {
                    Some(watch) => watch.next().await,
                    None => match self.store.connections.client().watch(key, from).await {
                        Ok(watch) => {
                            self.watch = Some(watch);
                            continue;
                        }
                        Err(error) => Err(error),
                    },
                };
                match told {
                    Ok(events) if ends(&events, key, lease) => {
                        (self.watch_from, self.watch) = (None, None);
                        return;
                    }
                    Ok(_) => {}
                    // From now on: what happened meanwhile, the next renewal finds out.
                    Err(_) => {
                        (self.watch_from, self.watch) = (Some(0), None);
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        })
    }

    fn leave(&mut self) -> BackendFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            (self.watch_from, self.watch) = (None, None);
            if let Some(lease) = self.lease {
                self.store.ask(async |etcd: Etcd| etcd.revoke(lease).await).await?;
                self.lease = None;
            }
            Ok(())
        })
    }
}

/// Whether the key, or its lease, is no longer ours.
fn ends(events: &Events, key: &[u8], lease: LeaseId) -> bool {
    events.deleted.iter().any(|deleted| deleted == key)
        || events.put.iter().any(|entry| entry.key == key && entry.lease != lease.0)
}
