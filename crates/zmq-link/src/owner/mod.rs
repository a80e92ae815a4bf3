//! The owner thread: the only one that touches the sockets of a link.

mod driver;
mod end;
mod monitor;
mod open;
mod peers;
mod revival;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use zmq::{Context, PollItem, Socket};

pub use self::end::CloseReport;

use self::driver::{Driver, Next, Scratch, Side};
use self::monitor::Monitor;
use self::peers::Peers;
use self::revival::Revival;
use crate::auth::Domain;
use crate::error::LinkError;
use crate::key::KeyPair;
use crate::message::{Peer, PeerId};
use crate::options::{DealerOptions, RouterOptions, Security, ServerSecurity, SocketOptions};
use crate::repeats::Repeats;
use crate::shared::Shared;
use crate::wake::Waker;
use crate::zap::Zap;

/// A socket that was opened: its number, its shared part, its address.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) id: u64,
    pub(crate) shared: Arc<Shared>,
    pub(crate) endpoint: String,
}

/// Per socket, by name, how it ended.
pub(crate) type Reports = Vec<(Arc<str>, CloseReport)>;

/// What the handles ask of the owner.
pub(crate) enum Command {
    Router(RouterOptions, oneshot::Sender<Result<Opened, LinkError>>),
    Dealer(DealerOptions, oneshot::Sender<Result<Opened, LinkError>>),
    Rebind(u64, KeyPair, oneshot::Sender<Result<(), LinkError>>),
    Close(u64, Duration, Option<oneshot::Sender<CloseReport>>),
    CloseAll(Duration, Option<oneshot::Sender<Reports>>),
}

/// The way to the owner.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) waker: Arc<Waker>,
    pending: AtomicBool,
    commands: Mutex<Option<Vec<Command>>>,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Command")
    }
}

impl Desk {
    pub(crate) fn new() -> std::io::Result<Self> {
        let waker = Arc::new(Waker::new()?);
        Ok(Self { waker, pending: AtomicBool::new(false), commands: Mutex::new(Some(Vec::new())) })
    }

    /// `false` when the owner has ended; then the command and with it its way of answering are dropped.
    pub(crate) fn post(&self, command: Command) -> bool {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(commands) = commands.as_mut() else { return false };
        commands.push(command);
        self.pending.store(true, SeqCst);
        self.waker.wake();
        true
    }

    fn fetch(&self) -> Vec<Command> {
        if !self.pending.swap(false, SeqCst) {
            return Vec::new();
        }
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        commands.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn close(&self) {
        *self.commands.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The thread's state.
pub(crate) struct Owner {
    desk: Arc<Desk>,
    context: Context,
    zap: Zap,
    drivers: Vec<Driver>,
    /// Per driver, whether it has to be asked: its descriptors, its signal or its time say so.
    due: HashMap<u64, Option<Instant>>,
    next_id: u64,
    ending: bool,
    reports: Reports,
    replies: Vec<oneshot::Sender<Reports>>,
    expected: Vec<(Arc<str>, oneshot::Receiver<CloseReport>)>,
}

impl Owner {
    pub(crate) fn new(desk: Arc<Desk>, context: Context, zap: Zap) -> Self {
        Self {
            desk,
            context,
            zap,
            drivers: Vec::new(),
            due: HashMap::new(),
            next_id: 0,
            ending: false,
            reports: Vec::new(),
            replies: Vec::new(),
            expected: Vec::new(),
        }
    }

    /// Until all is closed. Dropping what is left then waits for nothing.
    pub(crate) fn run(mut self) {
        let mut items: Vec<PollItem<'static>> = Vec::new();
        loop {
            for command in self.desk.fetch() {
                self.obey(command);
            }
            let again = self.service();
            self.forget_done();
            if self.ending && self.drivers.is_empty() {
                break;
            }
            if !again {
                self.sleep(&mut items);
            }
        }
        self.desk.close();
        for (name, mut report) in self.expected.drain(..) {
            self.reports.extend(report.try_recv().ok().map(|report| (name, report)));
        }
        // The ZAP thread and the context go before the end is told: then no descriptor and no port is held.
        let (reports, replies) = (std::mem::take(&mut self.reports), std::mem::take(&mut self.replies));
        drop(self);
        for reply in replies {
            // Nobody waits any more: fine.
            let _ = reply.send(reports.clone());
        }
    }

    /// Asks each socket that may have something to do; whether any has more.
    fn service(&mut self) -> bool {
        let now = Instant::now();
        let mut again = false;
        for driver in &mut self.drivers {
            let due = self.due.entry(driver.id).or_default();
            if !driver.shared.signal.is_raised() && due.is_none_or(|due| now < due) {
                continue;
            }
            let next: Next = driver.service(now);
            *due = if next.again { Some(now) } else { next.by };
            again |= next.again;
        }
        again
    }

    fn sleep(&mut self, items: &mut Vec<PollItem<'static>>) {
        items.clear();
        items.push(PollItem::from_fd(self.desk.waker.fd(), zmq::POLLIN));
        for driver in &self.drivers {
            // A socket without a descriptor to wait on is asked by its time alone; -1 is never ready.
            let own = if driver.socket.is_some() { driver.fd } else { -1 };
            items.push(PollItem::from_fd(own, zmq::POLLIN));
            items.push(PollItem::from_fd(driver.monitor.fd().unwrap_or(-1), zmq::POLLIN));
        }
        self.desk.waker.will_sleep();
        let work = self.desk.pending.load(SeqCst)
            || self.drivers.iter().any(|driver| driver.shared.signal.is_raised());
        if work {
            return self.desk.waker.awake(false);
        }
        let timeout = self.due.values().flatten().min().map_or(-1, |due| {
            let wait = due.saturating_duration_since(Instant::now());
            i64::try_from(wait.as_millis()).map_or(i64::MAX, |millis| millis + 1)
        });
        let polled = zmq::poll(items, timeout);
        self.desk.waker.awake(polled.is_ok() && items[0].is_readable());
        if polled.is_err() {
            return;
        }
        let now = Instant::now();
        for (driver, ready) in self.drivers.iter().zip(items[1..].chunks(2)) {
            if ready.iter().any(PollItem::is_readable) {
                self.due.insert(driver.id, Some(now));
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Router(options, reply) => drop(reply.send(self.open_router(&options))),
            Command::Dealer(options, reply) => drop(reply.send(self.open_dealer(options))),
            Command::Rebind(id, key, reply) => {
                if let Some(driver) = self.drivers.iter_mut().find(|driver| driver.id == id) {
                    driver.rebind(&key, reply);
                    self.due.insert(id, Some(Instant::now()));
                }
            }
            Command::Close(id, linger, reply) => {
                if let Some(driver) = self.drivers.iter_mut().find(|driver| driver.id == id) {
                    driver.close(linger, reply);
                    self.due.insert(id, Some(Instant::now()));
                }
            }
            Command::CloseAll(linger, reply) => {
                self.ending = true;
                self.replies.extend(reply);
                for driver in &mut self.drivers {
                    let (told, report) = oneshot::channel();
                    self.expected.push((Arc::clone(&driver.shared.name), report));
                    driver.close(linger, Some(told));
                    self.due.insert(driver.id, Some(Instant::now()));
                }
            }
        }
    }

    fn forget_done(&mut self) {
        let Self { drivers, due, zap, .. } = self;
        drivers.retain(|driver| {
            if driver.is_done() {
                due.remove(&driver.id);
                zap.remove(&domain_name(driver.id));
            }
            !driver.is_done()
        });
    }

    fn open_router(&mut self, options: &RouterOptions) -> Result<Opened, LinkError> {
        let id = self.new_id(&options.socket)?;
        let shared = Arc::new(Shared::new(&options.socket, Arc::clone(&self.desk.waker)));
        let mut socket = open::router(&self.context, options, &domain_name(id))?;
        let mut monitor = self.watch(&socket, id, &shared, &options.socket)?;
        let mut allowed = None;
        if let Security::Curve { key, allowed: keys } = &options.security {
            let domain = Arc::new(Domain::new(keys.clone(), Arc::clone(&shared)));
            self.zap.add(domain_name(id), Arc::clone(&domain));
            monitor.own_key(key.public().id());
            monitor.domain(domain);
            allowed = Some(keys.clone());
        }
        let endpoint = open::bind(&mut socket, &options.socket.name, &options.endpoint)
            .inspect_err(|_| self.zap.remove(&domain_name(id)))?;
        let peers = Peers::new(allowed);
        self.add(Opened { id, shared, endpoint }, &options.socket, socket, monitor, Side::Listens(peers))
    }

    fn open_dealer(&mut self, options: DealerOptions) -> Result<Opened, LinkError> {
        let id = self.new_id(&options.socket)?;
        let shared = Arc::new(Shared::new(&options.socket, Arc::clone(&self.desk.waker)));
        let mut socket = open::dealer(&self.context, &options)?;
        let mut monitor = self.watch(&socket, id, &shared, &options.socket)?;
        monitor.server(options.endpoint.clone());
        if let ServerSecurity::Curve { key, .. } = &options.security {
            monitor.own_key(key.public().id());
        }
        open::connect(&mut socket, &options)?;
        let opened = Opened { id, shared, endpoint: options.endpoint.clone() };
        let socket_options = options.socket.clone();
        self.add(opened, &socket_options, socket, monitor, Side::Connects(Box::new(Revival::new(options))))
    }

    /// A number for one more socket. None is used twice: what failed to open goes in libzmq's own time.
    fn new_id(&mut self, options: &SocketOptions) -> Result<u64, LinkError> {
        if self.ending {
            return Err(LinkError::Closed);
        }
        options.check()?;
        self.next_id += 1;
        Ok(self.next_id)
    }

    fn watch(
        &self,
        socket: &Socket,
        id: u64,
        shared: &Arc<Shared>,
        options: &SocketOptions,
    ) -> Result<Monitor, LinkError> {
        Monitor::start(&self.context, socket, id, Arc::clone(shared)).map_err(|error| LinkError::Option {
            socket: options.name.clone(),
            option: "monitor",
            source: error.into(),
        })
    }

    fn add(
        &mut self,
        opened: Opened,
        options: &SocketOptions,
        socket: Socket,
        monitor: Monitor,
        side: Side,
    ) -> Result<Opened, LinkError> {
        let fd = socket.get_fd().map_err(|error| LinkError::Option {
            socket: options.name.clone(),
            option: "FD",
            source: error.into(),
        })?;
        let address = Some(opened.endpoint.as_str().into());
        self.drivers.push(Driver {
            id: opened.id,
            shared: Arc::clone(&opened.shared),
            options: options.clone(),
            socket: Some(socket),
            fd,
            monitor,
            endpoint: opened.endpoint.clone(),
            is_up: matches!(side, Side::Listens(_)),
            side,
            server: Arc::new(Peer { id: PeerId::default(), name: None, key: None, address }),
            waiting: HashMap::new(),
            closing: None,
            rebinding: None,
            scratch: Scratch::default(),
            repeats: Repeats::default(),
        });
        self.due.insert(opened.id, Some(Instant::now()));
        Ok(opened)
    }
}

fn domain_name(id: u64) -> String {
    format!("socket-{id}")
}
