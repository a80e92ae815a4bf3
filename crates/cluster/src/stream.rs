//! The application's ends: bounded queues of events, filled by the driver, read by whoever holds the stream.

mod queue;

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::SystemTime;

use futures_util::Stream as AsyncStream;

use crate::core::Room;
use crate::event::{ApiCall, Event, Level, LogLine, Message};
use crate::stream::queue::Queue;

pub(crate) use queue::Topic;

/// Called when a reader made room for which messages wait.
type Refill = Arc<dyn Fn() + Send + Sync>;

/// All streams of a node.
pub(crate) struct Hub {
    told: Mutex<Told>,
    refill: Refill,
}

/// Who listens, and what they were told so far.
#[derive(Debug, Default)]
struct Told {
    queues: Vec<Weak<Queue>>,
    members: Vec<(Arc<str>, SystemTime)>,
    quorum: Option<bool>,
    closed: bool,
}

impl Told {
    fn note(&mut self, event: &Event) {
        match event {
            Event::Join(name) => self.members.push((Arc::clone(name), SystemTime::now())),
            Event::Leave(name) => self.members.retain(|(member, _)| member != name),
            Event::Quorum(quorum) => self.quorum = Some(*quorum),
            _ => {}
        }
    }

    fn each(&mut self, mut with: impl FnMut(&Queue)) {
        self.queues.retain(|queue| queue.upgrade().map(|queue| with(&queue)).is_some());
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hub")
    }
}

impl Hub {
    pub(crate) fn new(refill: Refill) -> Self {
        Self { told: Mutex::default(), refill }
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a stream, which begins with how things stand.
    pub(crate) fn open(&self, topic: Topic) -> Events {
        let queue = Arc::new(Queue::new(topic));
        {
            let mut told = self.lock();
            let joins = told.members.iter().map(|(name, _)| Event::Join(Arc::clone(name)));
            queue.add(joins.chain(told.quorum.map(Event::Quorum)));
            if told.closed {
                queue.close();
            }
            // Those of readers that are gone.
            told.queues.retain(|queue| queue.strong_count() > 0);
            told.queues.push(Arc::downgrade(&queue));
        }
        if topic.holds_back() {
            (self.refill)();
        }
        Events { queue, refill: Arc::clone(&self.refill) }
    }

    pub(crate) fn tell(&self, events: Vec<Event>) {
        let mut told = self.lock();
        events.iter().for_each(|event| told.note(event));
        if let [only] = &told.queues[..]
            && let Some(only) = only.upgrade()
        {
            return only.add(events);
        }
        told.each(|queue| queue.add(events.iter().cloned()));
    }

    /// What all readers of messages and calls have room for. Without a reader of messages, none: they wait for the
    /// first one, and calls behind them.
    pub(crate) fn room(&self, most: Room) -> Room {
        let mut room = most;
        let mut readers = 0;
        self.lock().each(|queue| {
            if !queue.topic.holds_back() {
                return;
            }
            readers += usize::from(queue.topic != Topic::Api);
            let mut state = queue.lock();
            room.messages = room.messages.min(most.messages.saturating_sub(state.messages));
            room.bytes = room.bytes.min(most.bytes.saturating_sub(state.bytes));
            state.starved = true;
        });
        if readers == 0 { Room { messages: 0, bytes: 0 } } else { room }
    }

    /// When this member joined.
    pub(crate) fn joined_at(&self, name: &str) -> Option<SystemTime> {
        self.lock().members.iter().find(|(member, _)| **member == *name).map(|(_, at)| *at)
    }

    pub(crate) fn close(&self) {
        let mut told = self.lock();
        told.closed = true;
        told.each(Queue::close);
    }
}

/// Everything that happens, in order. Ends when the node is shut down.
///
/// A reader that is slow slows the senders of messages and calls: [`Settings::buffer`](crate::Settings::buffer) of them
/// wait here, and what comes beyond is not acknowledged. Of other events, 4096 wait. Beyond that, joins, leaves and the
/// quorum are told as they stand at last, so that they still alternate, and what is left out is counted in a
/// [`Event::Gap`].
pub struct Events {
    queue: Arc<Queue>,
    refill: Refill,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("topic", &self.queue.topic).finish_non_exhaustive()
    }
}

impl Events {
    /// The next event; `None` after the end. Safe to cancel.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    /// Waits for events and appends those that are there, up to `most`; 0 after the end. Safe to cancel.
    pub async fn next_many(&mut self, into: &mut Vec<Event>, most: usize) -> usize {
        let Some(first) = self.next().await else { return 0 };
        into.push(first);
        let (count, starved) = {
            let mut state = self.queue.lock();
            let mut count = 1;
            while count < most
                && let Some(event) = state.take()
            {
                into.push(event);
                count += 1;
            }
            (count, std::mem::take(&mut state.starved))
        };
        if starved {
            (self.refill)();
        }
        count
    }

    /// The next event if it is there.
    pub fn try_next(&mut self) -> Option<Event> {
        let (event, starved) = {
            let mut state = self.queue.lock();
            let event = state.take();
            let starved = event.is_some() && std::mem::take(&mut state.starved);
            (event, starved)
        };
        if starved {
            (self.refill)();
        }
        event
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        if let Some(event) = self.try_next() {
            return Poll::Ready(Some(event));
        }
        let mut state = self.queue.lock();
        if !state.is_empty() {
            context.waker().wake_by_ref();
        } else if state.closed {
            return Poll::Ready(None);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // Others wait no longer for this reader.
        (self.refill)();
    }
}

impl AsyncStream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.get_mut().poll(context)
    }
}

/// One kind of events. Messages and calls wait until they are read. Of joins, leaves and changes of the quorum that are
/// not read, 4096 wait; of more, each name's, or the quorum's, last one does. Lines that are left out beyond that
/// number are counted in a line of their own.
#[derive(Debug)]
pub struct Stream<T> {
    events: Events,
    of: fn(Event) -> Option<T>,
}

impl<T> Stream<T> {
    /// The next one; `None` after the end. Safe to cancel.
    pub async fn next(&mut self) -> Option<T> {
        loop {
            if let Some(item) = (self.of)(self.events.next().await?) {
                return Some(item);
            }
        }
    }

    /// The next one if it is there.
    pub fn try_next(&mut self) -> Option<T> {
        std::iter::from_fn(|| self.events.try_next()).find_map(self.of)
    }
}

impl<T> AsyncStream for Stream<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let this = self.get_mut();
        loop {
            match this.events.poll(context) {
                Poll::Ready(Some(event)) => {
                    if let Some(item) = (this.of)(event) {
                        return Poll::Ready(Some(item));
                    }
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

fn line(event: Event) -> Option<LogLine> {
    match event {
        Event::Log(line) => Some(line),
        Event::Gap(count) => {
            let message = format!("{count} lines are left out here: they came faster than they were read");
            Some(LogLine { level: Level::Warn, message })
        }
        _ => None,
    }
}

macro_rules! streams {
    ($($(#[$doc:meta])* $name:ident: $topic:ident, $pattern:pat => $value:expr, $of:ty;)*) => {
        $($(#[$doc])*
        pub(crate) fn $name(events: Events) -> Stream<$of> {
            debug_assert_eq!(events.queue.topic, Topic::$topic);
            Stream { events, of: |event| match event { $pattern => Some($value), _ => None } }
        })*
    };
}

streams! {
    messages: Messages, Event::Message(message) => message, Message;
    calls: Api, Event::Api(call) => call, ApiCall;
    joins: Joins, Event::Join(node) => node, Arc<str>;
    leaves: Leaves, Event::Leave(node) => node, Arc<str>;
    quorums: Quorum, Event::Quorum(quorum) => quorum, bool;
    lines: Log, event @ (Event::Log(_) | Event::Gap(_)) => line(event)?, LogLine;
}

#[cfg(test)]
mod tests;
