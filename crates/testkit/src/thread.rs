//! A runtime on a thread of its own, which can be frozen or dropped with everything that runs on it.

use std::future::Future;
use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The thread. On drop its tasks are dropped where they stand, and their sockets with them.
#[derive(Debug)]
pub(crate) struct OwnThread {
    handle: Handle,
    frozen: Option<mpsc::Sender<()>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl OwnThread {
    /// Starts the thread with one task, made inside its runtime.
    pub(crate) fn start<F: Future<Output = ()> + 'static>(main: impl FnOnce() -> F + Send + 'static) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (ready, handle) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
            let _ = ready.send(runtime.handle().clone());
            runtime.block_on(async {
                tokio::select! {
                    () = main() => {}
                    _ = stopped => {}
                }
            });
        });
        let handle = handle.recv().expect("the thread gives its handle first");
        Self { handle, frozen: None, stop: Some(stop), thread: Some(thread) }
    }

    /// Freezes every task until [`OwnThread::thaw`]. Sockets stay open, unread.
    pub(crate) fn freeze(&mut self) {
        if self.frozen.is_some() {
            return;
        }
        let (thaw, thawed) = mpsc::channel::<()>();
        let (begun, begins) = mpsc::channel();
        self.handle.spawn(async move {
            let _ = begun.send(());
            // Blocks the runtime's only thread on purpose; ends when the sender is dropped.
            let _ = thawed.recv();
        });
        let _ = begins.recv();
        self.frozen = Some(thaw);
    }

    /// Lets the tasks go on.
    pub(crate) fn thaw(&mut self) {
        self.frozen = None;
    }
}

impl Drop for OwnThread {
    fn drop(&mut self) {
        // The stop first: what waited for the thaw is not to be served any more.
        drop(self.stop.take());
        self.thaw();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
