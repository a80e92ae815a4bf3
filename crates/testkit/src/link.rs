//! A link between two programs that can be cut, stalled, slowed and healed.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::port::free_port;
use crate::recorder::listen;
use crate::thread::OwnThread;

/// What the link does with what passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    cut: bool,
    /// How often it was cut: a cut that is healed at once ends what stood all the same.
    cuts: u64,
    blackhole: bool,
    delay: Duration,
    bytes_per_second: Option<u64>,
}

/// A TCP forwarder on a port of its own, in front of a server.
#[derive(Debug)]
pub struct FaultLink {
    addr: SocketAddr,
    state: watch::Sender<State>,
    _thread: OwnThread,
}

impl FaultLink {
    /// A sound link to the server at `target`.
    pub fn to(target: SocketAddr) -> Self {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let listener = listen(addr).expect("a reserved port can be listened on");
        let (state, watched) = watch::channel(State::default());
        let thread = OwnThread::start(move || accept(listener, target, watched));
        Self { addr, state, _thread: thread }
    }

    /// Where to connect to instead of the server.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Resets every connection, and every new one, until healed.
    pub fn cut(&self) {
        self.state.send_modify(|state| (state.cut, state.cuts) = (true, state.cuts + 1));
    }

    /// Resets every connection that stands; new ones work.
    pub fn reset(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Passes nothing on, in either direction, and closes nothing, until healed.
    pub fn blackhole(&self) {
        self.state.send_modify(|state| state.blackhole = true);
    }

    /// Holds each piece back for so long.
    pub fn delay(&self, delay: Duration) {
        self.state.send_modify(|state| state.delay = delay);
    }

    /// Passes no more than so many bytes a second, in each direction of each connection.
    pub fn limit(&self, bytes_per_second: u64) {
        self.state.send_modify(|state| state.bytes_per_second = Some(bytes_per_second.max(1)));
    }

    /// A sound link again. What was held back passes now.
    pub fn heal(&self) {
        self.state.send_modify(|state| *state = State { cuts: state.cuts, ..State::default() });
    }
}

async fn accept(listener: std::net::TcpListener, target: SocketAddr, state: watch::Receiver<State>) {
    let listener = TcpListener::from_std(listener).expect("a non-blocking listener fits the runtime");
    loop {
        if let Ok((client, _)) = listener.accept().await {
            tokio::spawn(forward(client, target, state.clone()));
        }
    }
}

async fn forward(mut client: TcpStream, target: SocketAddr, state: watch::Receiver<State>) {
    let State { cut, cuts, .. } = *state.borrow();
    if cut {
        return reset(&client);
    }
    passable(&mut state.clone()).await;
    let Ok(mut server) = TcpStream::connect(target).await else { return reset(&client) };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        let both = async {
            tokio::try_join!(
                pump(&mut from_client, &mut to_server, state.clone()),
                pump(&mut from_server, &mut to_client, state.clone()),
            )
        };
        let ended = tokio::select! {
            ended = both => ended.is_ok(),
            () = is_cut(state.clone(), cuts) => false,
        };
        if ended {
            return;
        }
    }
    reset(&client);
    reset(&server);
}

/// The next drop of this socket sends RST.
fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

async fn is_cut(mut state: watch::Receiver<State>, cuts_before: u64) {
    let _ = state.wait_for(|state| state.cuts != cuts_before).await;
}

async fn passable(state: &mut watch::Receiver<State>) {
    let _ = state.wait_for(|state| !state.blackhole).await;
}

async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut state: watch::Receiver<State>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        passable(&mut state).await;
        let now = *state.borrow();
        // A tenth of a second's worth at a time, so that a slow link flows rather than jumps.
        let piece = now.bytes_per_second.map_or(buffer.len(), |rate| {
            usize::try_from(rate / 10).unwrap_or(usize::MAX).clamp(1, buffer.len())
        });
        let length = from.read(&mut buffer[..piece]).await?;
        passable(&mut state).await;
        sleep(now.delay).await;
        if let Some(rate) = now.bytes_per_second {
            let micros = u64::try_from(length).unwrap_or(0) * 1_000_000 / rate;
            sleep(Duration::from_micros(micros)).await;
        }
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
    }
}
