//! Leases in a store of versioned values, with an anchor: a session or lease of the store's own that ends by
//! itself when nobody renews it. Consul and etcd are such stores.
//!
//! The record is changed by compare-and-set on its version; each renewal writes it anew. So that somebody else
//! may take a lease that was not released, its record has to stand unchanged for one expiry on the taker's own
//! clock: no clock of the store's is trusted, nor its memory, nor that its anchors end only when they should.
//! The anchor says who lives: to people, and to contenders with another expiry.

mod decide;
mod stored;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::LockError;
use crate::lease::rules::{Contender, Reply, Request};

use super::{Listener, LockFuture, News, Session};
use decide::{Verdict, decide};

pub(super) use decide::Kept;
pub(super) use stored::Stored;

/// How often a record is written when its version turns out to be another one each time.
const REWRITES: usize = 3;

/// How a record is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hold<'a> {
    /// Held by this anchor.
    By(&'a str),
    /// Given back by this anchor.
    Free(&'a str),
    /// As it is: nobody's.
    Nobody,
}

/// What such a store does for one id.
pub(super) trait Store: Send + Sync + 'static {
    /// The record and its live anchor, confirmed by a majority.
    fn read(&self) -> impl Future<Output = Result<Kept, LockError>> + Send;

    /// Writes the record if its version is still this one (zero: if there is none). The new version, or none
    /// when it was another.
    fn write(
        &self,
        version: u64,
        record: &Stored,
        hold: Hold<'_>,
    ) -> impl Future<Output = Result<Option<u64>, LockError>> + Send;

    /// A new anchor that ends by itself after this time, or somewhat later.
    fn anchor(&self, expiry: Duration) -> impl Future<Output = Result<String, LockError>> + Send;

    /// Makes the anchor last; false when it has ended.
    fn keep(&self, anchor: &str) -> impl Future<Output = Result<bool, LockError>> + Send;

    /// Ends the anchor, or says nothing when it has ended.
    fn end(&self, anchor: &str) -> impl Future<Output = Result<(), LockError>> + Send;

    /// Tells of each change after `index` ([`Kept::index`]), and returns when it cannot go on.
    fn follow(&self, index: u64, told: &(dyn Fn() + Send + Sync)) -> impl Future<Output = LockError> + Send;

    /// For errors: no answer in time.
    fn silent(&self, within: Duration) -> LockError;
}

/// A session on such a store.
pub(super) struct AnchoredSession<S> {
    store: Arc<S>,
    from: Contender,
    patience: Duration,
    /// The lease as this session last wrote it.
    mine: Option<Mine>,
    listener: Listener,
    /// Where the store stood when the session was opened.
    index: u64,
    /// Tells of changes from there on; ends with the session. Begun by the first request for the lease: whoever
    /// only looks does not need it.
    follower: Option<tokio::task::JoinHandle<()>>,
}

/// A lease of ours.
#[derive(Clone, Debug)]
struct Mine {
    record: Stored,
    version: u64,
    anchor: String,
}

impl<S> Drop for AnchoredSession<S> {
    fn drop(&mut self) {
        if let Some(follower) = &self.follower {
            follower.abort();
        }
    }
}

impl<S: Store> AnchoredSession<S> {
    /// Looks at the record, so that a store that does not answer is found out.
    pub(super) async fn open(
        store: S,
        from: Contender,
        patience: Duration,
        listener: Listener,
    ) -> Result<Box<dyn Session>, LockError> {
        let first = tokio::time::timeout(patience, store.read()).await;
        let index = first.map_err(|_| store.silent(patience))??.index;
        let store = Arc::new(store);
        Ok(Box::new(Self { store, from, patience, mine: None, listener, index, follower: None }))
    }

    fn follow(&mut self) {
        let (store, listener, index) = (self.store.clone(), self.listener.clone(), self.index);
        self.follower.get_or_insert_with(|| {
            tokio::spawn(async move {
                let told = listener.clone();
                let error = store.follow(index, &move || told(News::Changed)).await;
                tracing::debug!(%error, "the record cannot be followed any more");
                listener(News::Broken);
            })
        });
    }

    async fn carry_out(&mut self, request: &Request) -> Result<Reply, LockError> {
        match request {
            Request::Acquire { .. } => self.acquire(request).await,
            Request::Renew { token, .. } => self.renew(*token).await,
            Request::Release { token } => self.release(*token).await,
            Request::Read => Ok(Reply::Shown(self.store.read().await?.view())),
        }
    }

    async fn acquire(&mut self, request: &Request) -> Result<Reply, LockError> {
        self.mine = None;
        self.follow();
        let mut kept = self.store.read().await?;
        let mut verdict = decide(&kept, &self.from, request, rand::random());
        if let Verdict::Doubt { record, take } = &verdict {
            // So that all wait for the same thing, and a second loss of memory shows.
            let written = self.store.write(kept.version, record, Hold::Nobody).await?;
            let mut again = request.clone();
            kept = match written {
                Some(version) => Kept { record: Some(record.clone()), version, anchor: None, ..kept },
                None => self.store.read().await?,
            };
            // Only what this very request has written may be taken at once.
            if *take && written.is_some() {
                again = kept.as_if_observed(request);
            }
            verdict = decide(&kept, &self.from, &again, rand::random());
        }
        match verdict {
            Verdict::Take(record) => self.take(kept, record).await,
            Verdict::No(reply) => Ok(reply),
            // Others write doubts of their own at the same moment: the next look will tell.
            Verdict::Doubt { .. } => Ok(Reply::Busy(kept.view())),
        }
    }

    /// Writes the record as ours, if nobody was faster.
    async fn take(&mut self, mut kept: Kept, record: Stored) -> Result<Reply, LockError> {
        if let Some(old) = &kept.anchor {
            // It has outlived its lease, or it is our own from a request whose answer was lost.
            self.store.end(old).await?;
            let now = self.store.read().await?;
            if now.record != kept.record || now.anchor.is_some() {
                return Ok(Reply::Busy(now.view()));
            }
            kept = now;
        }
        let anchor = self.store.anchor(Duration::from_millis(self.from.expiry_ms)).await?;
        let Some(version) = self.store.write(kept.version, &record, Hold::By(&anchor)).await? else {
            let (_, now) = tokio::join!(self.store.end(&anchor), self.store.read());
            return Ok(Reply::Busy(now?.view()));
        };
        let token = record.token;
        self.mine = Some(Mine { record, version, anchor });
        Ok(Reply::Acquired { token, end_us: self.end_us() })
    }

    async fn renew(&mut self, token: u64) -> Result<Reply, LockError> {
        let Some(mine) = self.own(token).await? else { return self.lost().await };
        if !self.store.keep(&mine.anchor).await? {
            return self.lost().await;
        }
        match self.rewrite(mine, false).await? {
            Some(mine) => self.mine = Some(mine),
            None => return self.lost().await,
        }
        Ok(Reply::Renewed { end_us: self.end_us() })
    }

    async fn release(&mut self, token: u64) -> Result<Reply, LockError> {
        let Some(mine) = self.own(token).await? else { return self.lost().await };
        let Some(mine) = self.rewrite(mine, true).await? else { return self.lost().await };
        // It is free by now; an anchor that stays ends by itself.
        if let Err(error) = self.store.end(&mine.anchor).await {
            tracing::debug!(%error, "the lease is free, but its anchor is left to end by itself");
        }
        Ok(Reply::Released)
    }

    /// Writes the record anew; none when it is not ours any more.
    async fn rewrite(&mut self, mut mine: Mine, released: bool) -> Result<Option<Mine>, LockError> {
        for _ in 0..REWRITES {
            let record = mine.record.again(released);
            let hold = if released { Hold::Free(&mine.anchor) } else { Hold::By(&mine.anchor) };
            if let Some(version) = self.store.write(mine.version, &record, hold).await? {
                return Ok(Some(Mine { record, version, ..mine }));
            }
            // An earlier write of ours, given up as lost, may have come through just now.
            match self.own(record.token).await? {
                Some(now) => mine = now,
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// The lease of this token, if it is ours: known to this session, or found in the store.
    async fn own(&mut self, token: u64) -> Result<Option<Mine>, LockError> {
        // Taken: after an error in between, what the session knows is no longer known to be so.
        if let Some(mine) = self.mine.take().filter(|mine| mine.record.token == token) {
            return Ok(Some(mine));
        }
        let kept = self.store.read().await?;
        let (Some(record), Some(anchor)) = (kept.record, kept.anchor) else { return Ok(None) };
        let ours = record.token == token && record.owner == self.from.owner && !record.released;
        Ok(ours.then_some(Mine { record, version: kept.version, anchor }))
    }

    async fn lost(&self) -> Result<Reply, LockError> {
        Ok(Reply::Lost(self.store.read().await?.view()))
    }

    /// When the lease ends by this host's wall clock: for display.
    fn end_us(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(now.as_micros()).unwrap_or(u64::MAX).saturating_add(self.from.expiry_ms * 1000)
    }
}

impl<S: Store> Session for AnchoredSession<S> {
    fn ask<'a>(&'a mut self, request: &'a Request) -> LockFuture<'a, Reply> {
        Box::pin(async move {
            let patience = self.patience;
            match tokio::time::timeout(patience, self.carry_out(request)).await {
                Ok(reply) => reply,
                Err(_) => Err(self.store.silent(patience)),
            }
        })
    }
}

/// A clock that came with an answer, as a floor for tokens.
pub(super) fn millis(date: Option<SystemTime>) -> u64 {
    let since = date.and_then(|date| date.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
