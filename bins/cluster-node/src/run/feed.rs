//! The cluster's events: taken in, kept, acted on, handed on.

use std::sync::Arc;
use std::time::SystemTime;

use cluster::{ApiCall, Event, Events, Manager};
use daemon::drain::Drain;
use daemon::readiness::ConditionHandle;
use rustix::process::{Signal, getpid, kill_process};
use tokio::sync::mpsc;

use super::states::quorum_detail;
use crate::apps::Batch;
use crate::ring::Ring;

/// Events in one go.
const PORTION: usize = 512;

/// Where events go.
pub struct Feed {
    /// The cluster.
    pub manager: Arc<Manager>,
    /// The ones that are kept.
    pub ring: Ring,
    /// Applications.
    pub apps: Option<mpsc::Sender<Batch>>,
    /// What `/readyz` says.
    pub quorum: ConditionHandle,
    /// Ended by `shutdown`.
    pub drain: Drain,
}

impl Feed {
    /// Runs until the cluster's events end.
    pub async fn run(self, mut events: Events, mut own: mpsc::Receiver<Event>) {
        let mut taken = Vec::with_capacity(PORTION);
        loop {
            tokio::select! {
                count = events.next_many(&mut taken, PORTION) => if count == 0 { return },
                Some(event) = own.recv() => taken.push(event),
            }
            let at = SystemTime::now();
            taken.retain(|event| !self.is_for_this_process(event));
            if taken.iter().any(|event| matches!(event, Event::Join(_) | Event::Leave(_) | Event::Quorum(_)))
            {
                self.quorum.set(self.manager.quorum(), quorum_detail(&self.manager));
            }
            if taken.is_empty() {
                continue;
            }
            self.ring.add(&taken, at);
            match &self.apps {
                // Full: events wait, and in the end their senders, as long as an application gets on.
                Some(apps) => {
                    let events = std::mem::replace(&mut taken, Vec::with_capacity(PORTION));
                    // The desk has ended: so does everything else.
                    let _ = apps.send(Batch { at, events }).await;
                }
                None => taken.clear(),
            }
        }
    }

    fn is_for_this_process(&self, event: &Event) -> bool {
        let Event::Api(ApiCall { from, action, .. }) = event else { return false };
        match &**action {
            "shutdown" => {
                tracing::info!(by = &**from, "told to shut down");
                self.drain.begin();
                true
            }
            "reload" => {
                tracing::info!(by = &**from, "told to reload");
                if let Err(error) = kill_process(getpid(), Signal::HUP) {
                    tracing::error!(%error, "the reload cannot be asked for");
                }
                true
            }
            _ => false,
        }
    }
}
