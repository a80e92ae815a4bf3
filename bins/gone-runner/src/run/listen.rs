//! Where messages come in, and what others are told about it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use daemon::settings::Address;
use gone::lock::Lock;
use tokio::net::UdpSocket;

/// The longest pause between two tries to find a way to the lock.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The first `HOST:PORT` of a lock's address; `None` for a lock of this host.
fn server(lock: &str) -> Option<&str> {
    let (_, rest) = lock.split_once("://")?;
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let first = authority.split(',').next().unwrap_or_default();
    (!first.is_empty()).then_some(first)
}

/// This host's address on the way to the lock's server, or loopback for a lock of this host. Tries until there
/// is a way.
pub async fn reaching(lock: &dyn Lock) -> IpAddr {
    let address = lock.address();
    let Some(server) = server(&address) else { return IpAddr::V4(Ipv4Addr::LOCALHOST) };
    let mut pause = Duration::from_millis(50);
    loop {
        match way_to(server).await {
            Ok(ip) => return ip,
            Err(error) => tracing::warn!(
                lock = server, %error,
                "there is no way to the lock yet; --listen would say where to take messages"
            ),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Connecting a datagram socket sends nothing: it only asks for the route.
async fn way_to(server: &str) -> std::io::Result<IpAddr> {
    let mut problem = std::io::Error::other("its name has no address");
    for to in tokio::net::lookup_host(server).await? {
        let any: SocketAddr = match to {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        match socket.connect(to).await.and_then(|()| socket.local_addr()) {
            Ok(local) => return Ok(local.ip()),
            Err(error) => problem = error,
        }
    }
    Err(problem)
}

/// What stands in the lock for others to connect to.
pub fn advertised(advertise: Option<&Address>, bound: SocketAddr) -> String {
    match advertise {
        Some(address) if address.port() == 0 => format!("tcp://{}", address.with_port(bound.port())),
        Some(address) => format!("tcp://{address}"),
        None => format!("tcp://{bound}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_server_counts_and_a_directory_has_none() {
        assert_eq!(server("redis://a:1,b:2/0?sentinel=m"), Some("a:1"));
        assert_eq!(server("rediss://[::1]:6379"), Some("[::1]:6379"));
        assert_eq!(server("file:/var/lib/x"), None);
    }

    #[tokio::test]
    async fn the_way_to_loopback_is_loopback() {
        assert_eq!(way_to("127.0.0.1:9").await.unwrap(), IpAddr::V4(Ipv4Addr::LOCALHOST));
    }

    #[test]
    fn what_is_advertised_wins_and_its_port_may_be_left_open() {
        let bound = "10.0.0.1:7".parse().unwrap();
        assert_eq!(advertised(None, bound), "tcp://10.0.0.1:7");
        assert_eq!(advertised(Some(&Address::new("h", 0)), bound), "tcp://h:7");
        assert_eq!(advertised(Some(&Address::new("::1", 9)), bound), "tcp://[::1]:9");
    }
}
