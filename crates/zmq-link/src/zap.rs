//! The ZAP handler (ZeroMQ RFC 27): libzmq asks it about each CURVE handshake of the link.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::auth::Domain;
use crate::wake::Waker;

const ENDPOINT: &str = "inproc://zeromq.zap.01";
/// Version, request id, domain, address, routing id, mechanism, credentials.
const REQUEST_FRAMES: usize = 7;

/// The thread, and the sockets it decides for.
#[derive(Debug)]
pub(crate) struct Zap {
    domains: Arc<Domains>,
    stop: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

type Domains = Mutex<HashMap<String, Arc<Domain>>>;

impl Zap {
    /// Bound before this returns, so that no handshake comes before it.
    pub(crate) fn start(context: &zmq::Context) -> io::Result<Self> {
        let socket = context.socket(zmq::REP)?;
        socket.set_linger(0)?;
        socket.bind(ENDPOINT)?;
        let stop = Arc::new(Waker::new()?);
        stop.will_sleep();
        let domains = Arc::new(Domains::default());
        let (known, stopped) = (Arc::clone(&domains), Arc::clone(&stop));
        let thread =
            std::thread::Builder::new().name("zap".into()).spawn(move || serve(&socket, &known, &stopped))?;
        Ok(Self { domains, stop, thread: Some(thread) })
    }

    pub(crate) fn add(&self, name: String, domain: Arc<Domain>) {
        self.domains.lock().unwrap_or_else(PoisonError::into_inner).insert(name, domain);
    }

    pub(crate) fn remove(&self, name: &str) {
        self.domains.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

impl Drop for Zap {
    fn drop(&mut self) {
        self.stop.wake();
        if let Some(thread) = self.thread.take() {
            // It cannot panic, and if it did, there is nothing left for it to do.
            let _ = thread.join();
        }
    }
}

fn serve(socket: &zmq::Socket, domains: &Domains, stop: &Waker) {
    loop {
        let mut items = [socket.as_poll_item(zmq::POLLIN), zmq::PollItem::from_fd(stop.fd(), zmq::POLLIN)];
        match zmq::poll(&mut items, -1) {
            Ok(_) | Err(zmq::Error::EINTR) => {}
            Err(error) => {
                return tracing::error!(%error, "nobody can be let in any more: the ZAP thread ends");
            }
        }
        if items[1].is_readable() {
            return;
        }
        while let Ok(request) = socket.recv_multipart(zmq::DONTWAIT) {
            // Fails only when the asking end has gone.
            let _ = socket.send_multipart(answer(&request, domains), zmq::DONTWAIT);
        }
    }
}

/// Everything that is not allowed is denied, a request that cannot be read included.
fn answer(request: &[Vec<u8>], domains: &Domains) -> [Vec<u8>; 6] {
    let request_id = request.get(1).cloned().unwrap_or_default();
    let user_id = decide(request, domains);
    let (status, text): (&[u8], &[u8]) =
        if user_id.is_some() { (b"200", b"") } else { (b"400", b"this key may not connect") };
    let user_id = user_id.unwrap_or_default().into_bytes();
    [b"1.0".to_vec(), request_id, status.to_vec(), text.to_vec(), user_id, Vec::new()]
}

fn decide(request: &[Vec<u8>], domains: &Domains) -> Option<String> {
    if request.len() != REQUEST_FRAMES || request[0] != b"1.0" {
        return None;
    }
    let name = std::str::from_utf8(&request[2]).ok()?;
    let domain = domains.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()?;
    domain.decide(&request[5], &request[6], &String::from_utf8_lossy(&request[3]))
}
