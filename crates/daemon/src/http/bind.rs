//! Listening sockets from addresses as people write them.
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::settings::Address;

/// Connections that wait for `accept`; the kernel caps it at its own `somaxconn`.
const BACKLOG: i32 = 4096;

/// Bytes that the kernel keeps for a client beyond what is on its way. Of a client that reads slowly we
/// hear that it reads whenever about half of this has gone, and not only after megabytes.
const UNSENT: u32 = 128 * 1024;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {reason}")]
pub struct BindError {
    address: String,
    reason: String,
}

impl BindError {
    fn new(address: &Address, cause: &io::Error) -> Self {
        let reason = match cause.kind() {
            io::ErrorKind::AddrInUse => "another process has this port; choose another one or stop it".into(),
            io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE".into(),
            io::ErrorKind::AddrNotAvailable => "this host does not have the address".into(),
            _ => {
                let text = cause.to_string();
                text.split(" (os error").next().unwrap_or(&text).to_owned()
            }
        };
        Self { address: address.to_string(), reason }
    }
}

/// A bound socket that listens already: a client that connects now waits for `accept`.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: TcpListener,
    addr: SocketAddr,
}

impl Listener {
    /// Uses a socket that somebody else opened, such as one passed by systemd.
    pub fn from_std(socket: TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let addr = socket.local_addr()?;
        Ok(Self { socket, addr })
    }

    /// The address with the port that was chosen.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// Binds one socket.
pub fn bind(address: &Address) -> Result<Listener, BindError> {
    bind_with(address, false)
}

/// Binds `count` sockets on one port, between which the kernel shares connections out: one for
/// each core's own runtime.
pub fn bind_per_core(address: &Address, count: usize) -> Result<Vec<Listener>, BindError> {
    let first = bind_with(address, true)?;
    // With port 0 the others follow the first, with a name they take the address that it got.
    let (chosen, dual) = (first.addr, address.host().is_none());
    let mut all = vec![first];
    for _ in 1..count {
        let next = open(chosen, true, dual).and_then(Listener::from_std);
        all.push(next.map_err(|error| BindError::new(address, &error))?);
    }
    Ok(all)
}

fn bind_with(address: &Address, reuse_port: bool) -> Result<Listener, BindError> {
    let port = address.port();
    let candidates: Vec<SocketAddr> = match address.host() {
        // One socket for both families, or for IPv4 where the kernel has no IPv6.
        None => vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()],
        Some(host) => match (host, port).to_socket_addrs() {
            Ok(found) => found.collect(),
            Err(_) => {
                let reason = format!("the name '{host}' cannot be resolved");
                return Err(BindError { address: address.to_string(), reason });
            }
        },
    };
    let mut last = None;
    let dual = address.host().is_none();
    for candidate in candidates {
        // Sockets that share a port would share it with another daemon of the same user, in silence:
        // one that does not share finds out.
        let alone = if reuse_port && port != 0 { open(candidate, false, dual).map(drop) } else { Ok(()) };
        let listener = alone.and_then(|()| open(candidate, reuse_port, dual)).and_then(Listener::from_std);
        match listener {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(BindError::new(address, &error));
            }
            Err(error) => last = Some(error),
        }
    }
    let none = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    Err(BindError::new(address, &last.unwrap_or_else(none)))
}

fn open(addr: SocketAddr, reuse_port: bool, dual: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(!dual)?;
    }
    // A restart must not wait for the connections of the process before it.
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    // Accepted connections inherit these, which saves system calls for each. Probes find the peers
    // that vanished in the middle of a stream that only we write to.
    socket.set_tcp_nodelay(true)?;
    let probes =
        TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    socket.set_tcp_keepalive(&probes)?;
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn a_free_port_is_chosen_and_shared_between_cores() {
        let listeners = bind_per_core(&address("127.0.0.1:0"), 3).unwrap();
        let port = listeners[0].addr().port();
        assert!(port > 0);
        assert!(listeners.iter().all(|listener| listener.addr().port() == port));
    }

    #[test]
    fn a_port_is_not_shared_with_others_who_share_theirs() {
        let first = bind_per_core(&address("127.0.0.1:0"), 2).unwrap();
        let same = format!("127.0.0.1:{}", first[0].addr().port());
        let error = bind_per_core(&address(&same), 2).unwrap_err();
        assert!(error.to_string().contains("another process has this port"), "{error}");
        drop(first);
        bind_per_core(&address(&same), 2).unwrap();
    }

    #[test]
    fn no_host_means_both_families() {
        let listener = bind(&address(":0")).unwrap();
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, listener.addr().port())).unwrap();
    }

    #[test]
    fn a_taken_port_is_said_in_one_sentence() {
        let first = bind(&address("127.0.0.1:0")).unwrap();
        let text = format!("127.0.0.1:{}", first.addr().port());
        let error = bind(&address(&text)).unwrap_err();
        let wanted =
            format!("cannot listen on {text}: another process has this port; choose another one or stop it");
        assert_eq!(error.to_string(), wanted);
    }

    #[test]
    fn an_address_of_another_host_is_refused() {
        let error = bind(&address("192.0.2.1:0")).unwrap_err();
        assert!(error.to_string().contains("does not have the address"), "{error}");
    }
}
