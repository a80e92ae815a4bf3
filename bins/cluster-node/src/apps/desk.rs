//! The task that serves all applications.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cluster::{Manager, Status};
use daemon::drain::Drain;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use zmq_link::{EventKind, Incoming, Multipart, PeerId, Router, RouterSender};

use super::frames::{self, Said, Welcome};
use super::session::{Bounds, Session};
use super::{Batch, Counters};

/// An application that was told nothing for so long gets a sign of life.
const PING: Duration = Duration::from_secs(1);
/// What applications sent before the end has so long to be taken.
const LAST_MESSAGES: Duration = Duration::from_secs(1);
/// What is sent last has so long to leave.
const LINGER: Duration = Duration::from_millis(300);

/// What the desk works with.
pub struct Desk {
    /// The cluster.
    pub manager: Arc<Manager>,
    /// Applications at a time.
    pub most: usize,
    /// How long one may take nothing while its buffer is full.
    pub patience: Duration,
    /// What is counted.
    pub counters: Counters,
}

struct Apps {
    desk: Desk,
    sender: RouterSender,
    sessions: HashMap<PeerId, Session>,
    writes: JoinSet<PeerId>,
    /// A batch that waits for room.
    waiting: VecDeque<Batch>,
    closed: bool,
}

impl Desk {
    /// Serves until the end begins, then takes what applications have sent already.
    pub async fn serve(self, mut router: Router, mut batches: mpsc::Receiver<Batch>, drain: Drain) {
        let mut link = router.events();
        let mut apps = Apps {
            sender: router.sender(),
            desk: self,
            sessions: HashMap::new(),
            writes: JoinSet::new(),
            waiting: VecDeque::new(),
            closed: false,
        };
        let (mut came, mut ends) = (Vec::new(), None);
        let mut pings = tokio::time::interval(PING);
        pings.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let manager = Arc::clone(&apps.desk.manager);
        let mut draining = std::pin::pin!(drain.draining());
        loop {
            // Asked for before anything is sent, so that no sign of room is missed.
            let room = manager.room();
            let full = apps.send();
            let held = apps.hand_out();
            apps.write();
            let done = ends.is_some() && !apps.sessions.values().any(Session::has_to_send);
            if done || ends.is_some_and(|ends| Instant::now() >= ends) {
                break;
            }
            let until = [held, ends].into_iter().flatten().min().unwrap_or_else(|| Instant::now() + PING);
            tokio::select! {
                () = &mut draining, if ends.is_none() => ends = Some(Instant::now() + LAST_MESSAGES),
                count = router.recv_many(&mut came) => {
                    if count == 0 {
                        break;
                    }
                    came.drain(..).for_each(|incoming| apps.hear(incoming));
                }
                batch = batches.recv(), if apps.waiting.is_empty() && !apps.closed => match batch {
                    Some(batch) => apps.waiting.push_back(batch),
                    None => apps.closed = true,
                },
                () = room, if full => {}
                Some(written) = apps.writes.join_next() => apps.written(written.ok()),
                event = link.recv() => apps.on_link(event.map(|event| event.kind)),
                () = sleep_until(until.into()), if held.is_some() || ends.is_some() => {}
                _ = pings.tick() => apps.ping(PING),
            }
        }
        apps.end(router).await;
    }

    fn bounds(&self) -> Bounds {
        let settings = self.manager.settings();
        Bounds { messages: settings.buffer, bytes: settings.buffer_bytes, patience: self.patience }
    }
}

impl Apps {
    /// Hands messages to the cluster; true when some wait for room.
    fn send(&mut self) -> bool {
        let mut full = false;
        let mut more = true;
        while more {
            more = false;
            for session in self.sessions.values_mut() {
                let messages = session.to_send();
                let asked = messages.len();
                if asked == 0 {
                    continue;
                }
                let outcomes = self.desk.manager.send_batch(messages);
                let taken = outcomes.len();
                session.sent(outcomes);
                if taken < asked {
                    full = true;
                } else {
                    more |= session.has_to_send();
                }
            }
        }
        full
    }

    /// Gives events to all applications, unless one of them has to be waited for: until when.
    fn hand_out(&mut self) -> Option<Instant> {
        if self.waiting.is_empty() {
            return None;
        }
        let (bounds, now) = (self.desk.bounds(), Instant::now());
        let holds = self.sessions.values_mut().filter_map(|session| session.holds_until(&bounds, now));
        if let Some(until) = holds.min() {
            return Some(until);
        }
        while let Some(Batch { at, events }) = self.waiting.pop_front() {
            for session in self.sessions.values_mut() {
                let mut left_out = 0;
                for event in &events {
                    left_out += u64::from(!session.offer(at, event, &bounds));
                }
                self.desk.counters.left_out.inc_by(left_out);
            }
        }
        None
    }

    /// Sends what applications may take.
    fn write(&mut self) {
        let (at, now) = (SystemTime::now(), Instant::now());
        for (id, session) in self.sessions.iter_mut().filter(|(_, session)| !session.writing) {
            let messages = session.take(at, now);
            if messages.is_empty() {
                continue;
            }
            session.writing = true;
            self.desk.counters.events.inc_by(messages.len() as u64);
            let (sender, id) = (self.sender.clone(), id.clone());
            self.writes.spawn(async move {
                // One that has gone is told as an event of the link.
                let _ = sender.send_all(&id, messages).await;
                id
            });
        }
    }

    fn written(&mut self, id: Option<PeerId>) {
        if let Some(session) = id.and_then(|id| self.sessions.get_mut(&id)) {
            session.writing = false;
        }
    }

    fn hear(&mut self, incoming: Incoming) {
        let id = &incoming.from.id;
        let said = match frames::read(&incoming.message) {
            Ok(Said::Hello(credit)) => return self.welcome(id, credit),
            Ok(said) => said,
            Err(sentence) => return self.refuse(id, &sentence),
        };
        let bounds = self.desk.bounds();
        let Some(session) = self.sessions.get_mut(id) else {
            return self
                .refuse(id, "say hello first: this node does not know this connection, or not any more");
        };
        match said {
            Said::Credit(credit) => session.grant(credit),
            Said::Send(target, payload) => {
                self.desk.counters.messages.inc();
                session.send(target, payload, &bounds);
            }
            Said::Hello(_) => {}
        }
    }

    fn welcome(&mut self, id: &PeerId, credit: u64) {
        let before = self.sessions.get(id);
        if before.is_none() && self.sessions.len() >= self.desk.most {
            let most = self.desk.most;
            return self.refuse(id, &format!("{most} applications are connected already (--max-apps)"));
        }
        let bounds = self.desk.bounds();
        let manager = &self.desk.manager;
        let members = manager.status().into_iter().filter(|node| node.status == Status::Online);
        let welcome = Welcome {
            node: manager.name(),
            members: members.map(|node| node.name).collect(),
            quorum: manager.quorum(),
            messages: bounds.messages,
            bytes: bounds.bytes,
        };
        // One that says hello again has lost its place, and is told how much it misses.
        let missed = before.map_or(0, Session::waiting);
        let writing = before.is_some_and(|session| session.writing);
        let mut session = Session::new(credit, missed, Instant::now());
        session.writing = writing;
        self.tell(id, welcome.frames());
        self.sessions.insert(id.clone(), session);
        self.count();
    }

    fn refuse(&self, id: &PeerId, sentence: &str) {
        self.desk.counters.refused.inc();
        self.tell(id, frames::error(sentence));
    }

    /// One whose queue is full has enough to read.
    fn tell(&self, id: &PeerId, message: Multipart) {
        let _ = self.sender.try_send(id, message);
    }

    fn on_link(&mut self, kind: Result<EventKind, broadcast::error::RecvError>) {
        match kind {
            Ok(EventKind::Undelivered { to, .. }) => {
                if self.sessions.remove(&to).is_some() {
                    tracing::info!(app = %to, "an application has gone");
                }
                self.count();
            }
            // Whose connection that was shows when something is sent to it.
            Ok(EventKind::Disconnected) | Err(broadcast::error::RecvError::Lagged(_)) => {
                self.ping(Duration::ZERO)
            }
            _ => {}
        }
    }

    /// A sign of life for those who were told nothing for so long.
    fn ping(&mut self, silent: Duration) {
        let now = Instant::now();
        let sender = &self.sender;
        for (id, session) in &mut self.sessions {
            if now.duration_since(session.told) >= silent {
                session.told = now;
                let _ = sender.try_send(id, frames::ping());
            }
        }
    }

    fn count(&self) {
        self.desk.counters.sessions.set(i64::try_from(self.sessions.len()).unwrap_or(i64::MAX));
    }

    async fn end(mut self, router: Router) {
        // The last answers come after what is being written.
        let last = async {
            self.write();
            while let Some(written) = self.writes.join_next().await {
                self.written(written.ok());
                self.write();
            }
        };
        if tokio::time::timeout(LINGER, last).await.is_err() {
            tracing::debug!("applications did not take all that was for them");
        }
        let left: usize = self.sessions.values_mut().map(|session| session.to_send().len()).sum();
        if left > 0 {
            tracing::warn!("messages of applications were not taken before the end and are not answered");
        }
        self.writes.abort_all();
        drop(self.sender);
        router.close(LINGER).await;
    }
}
