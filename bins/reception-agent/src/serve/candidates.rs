//! Candidates that stand for callers, each for as long as it is kept alive.
//!
//! Whoever is told that it leads is promised so for a time ([`Stood::leads`]): until the term could end, or until the caller's own ttl is
//! over. Before that time is over the place is not given up, but by the caller's own word.

use std::time::Duration;

use daemon::drain::Drain;
use reception::{Candidate, Client, Elector, Service};
use supervise::Boottime;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::metrics::Counters;
use super::posts::{Full, Key, Post, Posts};
use super::records::Records;
use crate::elect::Terms;

/// What is asked of one candidate's task.
#[derive(Debug)]
pub enum Call {
    /// Stand, or go on to stand, for so long.
    Stand {
        /// The candidate.
        service: Service,
        /// Whether it may only be said who it is, as in a repetition.
        brief: bool,
        /// Until it has to be repeated.
        ttl: Duration,
        /// The answer; none where it stands with other values.
        reply: oneshot::Sender<Option<Stood>>,
    },
    /// Leave the line; whether it stood.
    Resign(oneshot::Sender<bool>),
}

/// How a candidate stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stood {
    /// The token where it leads, and for how long its caller may rely on that, from now on.
    pub leads: Option<(u64, Duration)>,
    /// Why it is not in the line.
    pub trouble: Option<String>,
}

/// All candidates. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Candidates {
    posts: Posts<Call>,
    holder: Holder,
}

#[derive(Clone, Debug)]
struct Holder {
    client: Client,
    records: Records,
    terms: Terms,
    timeout: Duration,
    drain: Drain,
    counters: Counters,
}

struct Standing {
    elector: Elector,
    ends: Instant,
    /// Until when its caller may rely on leading.
    promised: Boottime,
}

impl Candidates {
    /// None yet. `drain` ends them all. Who only says its id is where `records` has it, if they do.
    pub fn new(
        posts: Posts<Call>,
        client: Client,
        records: Records,
        terms: Terms,
        timeout: Duration,
        drain: Drain,
        counters: Counters,
    ) -> Self {
        Self { posts, holder: Holder { client, records, terms, timeout, drain, counters } }
    }

    /// Stands for `ttl`, or goes on to stand. None where it stands with other values already, unless `brief`.
    ///
    /// # Errors
    /// [`Full`], where no more can stand.
    pub async fn stand(&self, service: Service, brief: bool, ttl: Duration) -> Result<Option<Stood>, Full> {
        let key = (service.name.clone(), service.id.clone());
        let call = |reply| Call::Stand { service: service.clone(), brief, ttl, reply };
        self.posts.ask(&key, call, |post| drop(tokio::spawn(self.holder.clone().hold(post)))).await
    }

    /// Leaves the line; whether it stood there.
    pub async fn resign(&self, key: &Key) -> bool {
        self.posts.ask_if_there(key, Call::Resign).await.unwrap_or(false)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.posts.count()
    }
}

impl Holder {
    async fn hold(self, mut post: Post<Call>) {
        // The end waits until it is out of the line.
        let _guard = self.drain.guard();
        let mut standing: Option<Standing> = None;
        loop {
            tokio::select! {
                call = post.next() => match call {
                    Call::Stand { service, brief, ttl, reply } => {
                        let stood = self.stand(&mut standing, service, brief, ttl).await;
                        let _ = reply.send(stood);
                    }
                    Call::Resign(reply) => {
                        let stood = standing.is_some();
                        self.leave(&mut standing).await;
                        let _ = reply.send(stood);
                    }
                },
                () = ended(standing.as_ref()) => {
                    if let Some(Standing { elector, .. }) = &standing {
                        let service = elector.service();
                        tracing::warn!(name = %service.name, id = service.id, "not kept alive: out of the line");
                        self.counters.expired.inc();
                    }
                    self.leave(&mut standing).await;
                }
                () = self.drain.draining() => return self.end(standing).await,
            }
            if standing.is_none() && post.may_end() {
                return;
            }
        }
    }

    async fn stand(
        &self,
        standing: &mut Option<Standing>,
        service: Service,
        brief: bool,
        ttl: Duration,
    ) -> Option<Stood> {
        let new = standing.is_none();
        let service = if new && brief { self.placed(service).await } else { service };
        let begin = Instant::now();
        let standing = standing.get_or_insert_with(|| {
            tracing::info!(name = %service.name, id = service.id, "standing for a caller");
            Standing {
                elector: self.client.elector(service.clone()),
                ends: begin + ttl,
                promised: Boottime::from_nanos(0),
            }
        });
        if !brief && *standing.elector.service() != service {
            return None;
        }
        if new {
            tokio::select! {
                () = settled(&standing.elector) => {}
                () = tokio::time::sleep(self.timeout) => {}
                () = self.drain.draining() => {}
            }
        }
        standing.ends = Instant::now() + ttl;
        let (candidate, now) = (standing.elector.now(), Boottime::now());
        let leads =
            self.terms.leads(&candidate, now).map(|(token, kill_at)| (token, kill_at.since(now).min(ttl)));
        if let Some((_, time)) = leads {
            standing.promised = now + time;
        }
        let trouble = match candidate {
            Candidate::Away(why) => why.map(|why| why.to_string()),
            _ => None,
        };
        Some(Stood { leads, trouble })
    }

    /// Where an instance with its name and id is held here, the candidate is that.
    async fn placed(&self, service: Service) -> Service {
        let key = (service.name.clone(), service.id.clone());
        self.records.held(&key).await.unwrap_or(service)
    }

    async fn leave(&self, standing: &mut Option<Standing>) {
        if let Some(standing) = standing.take() {
            let _ = tokio::time::timeout(self.timeout, standing.elector.cancel()).await;
        }
    }

    /// The caller may still rely on what it was told: the place is given up after that, or not at all.
    async fn end(&self, mut standing: Option<Standing>) {
        if let Some(standing) = &standing {
            let left = standing.promised.since(Boottime::now());
            if !left.is_zero() {
                let service = standing.elector.service();
                tracing::info!(name = %service.name, id = service.id, ?left, "a caller was told that it leads: waiting");
            }
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                () = self.drain.expired() => {
                    tracing::warn!("leadership of a caller is not given up in order: it ends by the ttl");
                    // The process ends now, and with it the renewals.
                    std::future::pending::<()>().await;
                }
            }
        }
        self.leave(&mut standing).await;
    }
}

/// Waits until it leads, waits in the line, or cannot get there.
async fn settled(elector: &Elector) {
    let mut changes = elector.changes();
    while let Some(candidate) = changes.next().await {
        if matches!(candidate, Candidate::Waiting) {
            // In the line; whether first is asked next.
            let _ = tokio::time::timeout(Duration::from_millis(200), changes.next()).await;
            return;
        }
        if candidate != Candidate::Away(None) {
            return;
        }
    }
}

async fn ended(standing: Option<&Standing>) {
    match standing {
        Some(standing) => tokio::time::sleep_until(standing.ends).await,
        None => std::future::pending().await,
    }
}
