//! Signals that are for a child: a daemon that runs a command catches them and passes them on.

use signal_hook::consts::{SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::{Handle, Signals};
use tokio::sync::mpsc;

/// Passed on as they are. SIGTERM and SIGINT end the daemon, SIGHUP makes it reload.
const FORWARDED: [i32; 4] = [SIGUSR1, SIGUSR2, SIGQUIT, SIGWINCH];
/// More than a child can be told at once; what exceeds it is dropped, as the kernel does with a pending signal.
const WAITING: usize = 64;

/// The signals that came.
#[derive(Debug)]
pub struct Forwarded {
    numbers: mpsc::Receiver<i32>,
    handle: Handle,
}

impl Forwarded {
    /// Catches them from here on.
    ///
    /// # Errors
    /// When the system gives no handler or no thread.
    pub fn install() -> std::io::Result<Self> {
        let mut caught = Signals::new(FORWARDED)?;
        let handle = caught.handle();
        let (tell, numbers) = mpsc::channel(WAITING);
        std::thread::Builder::new().name("forward".into()).spawn(move || {
            for number in caught.forever() {
                let _ = tell.try_send(number);
            }
        })?;
        Ok(Self { numbers, handle })
    }

    /// The next one.
    pub async fn next(&mut self) -> i32 {
        match self.numbers.recv().await {
            Some(number) => number,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        self.handle.close();
    }
}
