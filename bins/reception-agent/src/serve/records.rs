//! Instances that are held for callers, each for as long as it is kept alive.

use std::time::Duration;

use daemon::drain::Drain;
use reception::{Client, Presence, Registration, Service};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::metrics::Counters;
use super::posts::{Full, Key, Post, Posts};

/// What is asked of one instance's task.
#[derive(Debug)]
pub enum Call {
    /// Register it, or keep it registered, with these values for so long.
    Put {
        /// The instance.
        service: Service,
        /// Until it has to be repeated.
        ttl: Duration,
        /// The answer.
        reply: oneshot::Sender<Kept>,
    },
    /// Keep it registered.
    Heartbeat(oneshot::Sender<Option<Kept>>),
    /// Say with which values it is held.
    Tell(oneshot::Sender<Option<Service>>),
    /// Take it away; whether it was there.
    Delete(oneshot::Sender<bool>),
}

/// How an instance is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Whether the store has it.
    pub registered: bool,
    /// Why not.
    pub trouble: Option<String>,
    /// For how long, unless it is kept alive.
    pub ttl: Duration,
    /// Whether this call registered it, or changed it.
    pub new: bool,
}

/// All instances. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Records {
    posts: Posts<Call>,
    holder: Holder,
}

#[derive(Clone, Debug)]
struct Holder {
    client: Client,
    timeout: Duration,
    drain: Drain,
    counters: Counters,
}

struct Held {
    registration: Registration,
    ttl: Duration,
    ends: Instant,
}

impl Records {
    /// None yet. `drain` ends them all.
    pub fn new(
        posts: Posts<Call>,
        client: Client,
        timeout: Duration,
        drain: Drain,
        counters: Counters,
    ) -> Self {
        Self { posts, holder: Holder { client, timeout, drain, counters } }
    }

    /// Registers an instance for `ttl`, or keeps it registered; one with other values is changed.
    ///
    /// # Errors
    /// [`Full`], where no more can be held.
    pub async fn put(&self, service: Service, ttl: Duration) -> Result<Kept, Full> {
        let key = (service.name.clone(), service.id.clone());
        let call = |reply| Call::Put { service: service.clone(), ttl, reply };
        self.posts.ask(&key, call, |post| drop(tokio::spawn(self.holder.clone().hold(post)))).await
    }

    /// Keeps an instance alive; none where it is not held.
    pub async fn heartbeat(&self, key: &Key) -> Option<Kept> {
        self.posts.ask_if_there(key, Call::Heartbeat).await.flatten()
    }

    /// An instance as it is held; none where it is not.
    pub async fn held(&self, key: &Key) -> Option<Service> {
        self.posts.ask_if_there(key, Call::Tell).await.flatten()
    }

    /// Takes an instance away; whether it was held.
    pub async fn delete(&self, key: &Key) -> bool {
        self.posts.ask_if_there(key, Call::Delete).await.unwrap_or(false)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.posts.count()
    }
}

impl Holder {
    async fn hold(self, mut post: Post<Call>) {
        // The end waits until it is taken away.
        let _guard = self.drain.guard();
        let mut held: Option<Held> = None;
        loop {
            tokio::select! {
                call = post.next() => match call {
                    Call::Put { service, ttl, reply } => {
                        let kept = self.put(&mut held, service, ttl).await;
                        let _ = reply.send(kept);
                    }
                    Call::Heartbeat(reply) => {
                        let _ = reply.send(held.as_mut().map(Held::keep));
                    }
                    Call::Tell(reply) => {
                        let _ = reply.send(held.as_ref().map(|held| held.registration.service().clone()));
                    }
                    Call::Delete(reply) => {
                        let was_there = held.is_some();
                        self.leave(&mut held).await;
                        let _ = reply.send(was_there);
                    }
                },
                () = ended(held.as_ref()) => {
                    if let Some(Held { registration, ttl, .. }) = &held {
                        let service = registration.service();
                        tracing::warn!(name = %service.name, id = service.id, ?ttl, "not kept alive: taken away");
                        self.counters.expired.inc();
                    }
                    self.leave(&mut held).await;
                }
                () = self.drain.draining() => {
                    self.leave(&mut held).await;
                    return;
                }
            }
            if held.is_none() && post.may_end() {
                return;
            }
        }
    }

    async fn put(&self, held: &mut Option<Held>, service: Service, ttl: Duration) -> Kept {
        let changes = held.as_ref().is_some_and(|held| *held.registration.service() != service);
        if changes {
            // The two would share one place in the store.
            self.leave(held).await;
        }
        let new = held.is_none();
        let held = held.get_or_insert_with(|| {
            tracing::info!(name = %service.name, id = service.id, changes, "registering for a caller");
            Held { registration: self.client.register(service), ttl, ends: Instant::now() + ttl }
        });
        if new {
            tokio::select! {
                () = held.registration.registered() => {}
                () = tokio::time::sleep(self.timeout) => {}
                () = self.drain.draining() => {}
            }
        }
        held.ttl = ttl;
        Kept { new, ..held.keep() }
    }

    /// A store that is away does not hold it up for long; the library goes on to try.
    async fn leave(&self, held: &mut Option<Held>) {
        if let Some(held) = held.take() {
            let _ = tokio::time::timeout(self.timeout, held.registration.leave()).await;
        }
    }
}

impl Held {
    fn keep(&mut self) -> Kept {
        self.ends = Instant::now() + self.ttl;
        let presence = self.registration.now();
        let trouble = match &presence {
            Presence::Away(why) => why.as_ref().map(ToString::to_string),
            Presence::Registered | Presence::Left => None,
        };
        Kept { registered: presence == Presence::Registered, trouble, ttl: self.ttl, new: false }
    }
}

async fn ended(held: Option<&Held>) {
    match held {
        Some(held) => tokio::time::sleep_until(held.ends).await,
        None => std::future::pending().await,
    }
}
