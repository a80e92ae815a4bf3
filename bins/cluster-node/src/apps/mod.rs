//! Applications of this host, which connect by ZeroMQ: events for them, messages from them.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`frames`] | what is said between the two; pure |
//! | [`session`] | one application: what waits for it, what it may take; pure |
//! | [`desk`] | the task that serves all of them |

pub mod desk;
pub mod frames;
pub mod session;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use cluster::Event;
use daemon::log::log_listening;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use zmq_link::{Limits, Link, Router, RouterOptions, Security};

use crate::config::{AppConfig, AppEndpoint};

/// The longest message that any settings allow, and its other frames.
const LARGEST: usize = (64 << 20) + 4096;
/// Frames of the longest message that an application says.
const FRAMES: usize = 8;
/// A connection that gives no sign of life for so long is ended; dead processes are noticed at once.
const SILENCE: Duration = Duration::from_secs(30);

/// Events on their way to applications.
#[derive(Debug)]
pub struct Batch {
    /// When they were taken in.
    pub at: SystemTime,
    /// They.
    pub events: Vec<Event>,
}

/// What is counted of applications.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Applications now.
    pub sessions: Gauge,
    /// Events that went to them.
    pub events: Counter,
    /// Events that they were too slow for.
    pub left_out: Counter,
    /// Messages that they sent.
    pub messages: Counter,
    /// Of those, the ones that were not understood.
    pub refused: Counter,
}

impl Counters {
    /// Makes them visible.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("apps", "Applications that are connected", self.sessions.clone());
        registry.register("app_events", "Events for applications", self.events.clone());
        registry.register(
            "app_events_left_out",
            "Events that applications were too slow for",
            self.left_out.clone(),
        );
        registry.register("app_messages", "Messages from applications", self.messages.clone());
        registry.register(
            "app_refused",
            "Messages from applications that were not understood",
            self.refused.clone(),
        );
    }
}

/// Listens for applications.
///
/// # Errors
/// When the address cannot be had, or another process has it.
pub async fn open(link: &Link, config: &AppConfig) -> anyhow::Result<Router> {
    let endpoint = match &config.endpoint {
        AppEndpoint::Tcp(addr) => format!("tcp://{addr}"),
        AppEndpoint::Ipc(path) => {
            refuse_taken(path)?;
            format!("ipc://{}", path.display())
        }
    };
    let mut options = RouterOptions::new("app", endpoint, Security::PlainText);
    let socket = &mut options.socket;
    socket.max_message = LARGEST;
    socket.max_frames = FRAMES;
    socket.inbound = Limits { messages: 10_000, bytes: LARGEST + 64 * FRAMES };
    socket.outbound = Limits { messages: 10_000, bytes: LARGEST + 64 * FRAMES };
    socket.heartbeat_timeout = SILENCE;
    let router = link.router(options).await.context("applications cannot connect (--app)")?;
    match &config.endpoint {
        AppEndpoint::Ipc(path) => {
            // Whoever can open it can send in this node's name.
            std::fs::set_permissions(path, Permissions::from_mode(0o660))
                .with_context(|| format!("{}: its permissions cannot be set", path.display()))?;
            tracing::info!(role = "app", addr = %router.endpoint(), "listening");
        }
        AppEndpoint::Tcp(_) => {
            let addr = router.endpoint().trim_start_matches("tcp://");
            log_listening("app", addr.parse().context("the address for applications")?);
        }
    }
    Ok(router)
}

/// libzmq would take the path away from a process that serves it.
fn refuse_taken(path: &Path) -> anyhow::Result<()> {
    if UnixStream::connect(path).is_ok() {
        bail!("another process serves {}: stop it, or give --app another path", path.display());
    }
    if let Ok(meta) = std::fs::symlink_metadata(path) {
        use std::os::unix::fs::FileTypeExt;
        if !meta.file_type().is_socket() {
            bail!("{} is there and is no socket: give --app another path", path.display());
        }
    }
    Ok(())
}
