//! `healthcheck`: asks the running daemon's `/readyz`, found through the same settings.
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::error::Failure;
use crate::settings::{Address, Api, Program, Values};

const TIMEOUT: Duration = Duration::from_secs(5);
/// More than any list of conditions needs.
const MOST: u64 = 1 << 20;

/// One line for stdout when the daemon is ready, else a failure.
pub(super) fn ask(program: &Program, values: &Values) -> Result<String, Failure> {
    let (address, certificates) = match program.api {
        Api::None => return Err(Failure::usage(format!("{} has no API to ask", program.name))),
        Api::Address { address, certificates } => match values.opt_address(address) {
            Some(address) => (address, certificates),
            None => return Err(Failure::usage(format!("'{address}' is not set, so there is no API to ask"))),
        },
        Api::HostPort { host, port, certificates } => {
            (Address::new(&values.text(host), values.integer(port)), certificates)
        }
    };
    let certificate = certificates.iter().find_map(|key| values.opt_path(key));
    let answer = exchange(&address, certificate.as_deref())
        .map_err(|error| Failure::running(format!("{address} does not answer: {error}")))?;
    judge(&address, &answer)
}

fn exchange(address: &Address, certificate: Option<&std::path::Path>) -> Result<String, String> {
    let stream = connect(address).map_err(|error| error.to_string())?;
    match certificate {
        None => talk(stream, address).map_err(|error| error.to_string()),
        Some(path) => {
            let stream = crate::tls::connect_pinned(stream, path)?;
            talk(stream, address).map_err(|error| error.to_string())
        }
    }
}

/// Dials the first address that answers; a daemon on every interface is asked over loopback.
fn connect(address: &Address) -> std::io::Result<TcpStream> {
    let candidates: Vec<SocketAddr> = match address.host() {
        None => vec![(Ipv4Addr::LOCALHOST, address.port()).into()],
        Some(host) => (host, address.port()).to_socket_addrs()?.map(reachable).collect(),
    };
    let mut last = std::io::Error::other("the name has no address");
    for candidate in candidates {
        match TcpStream::connect_timeout(&candidate, TIMEOUT) {
            Ok(stream) => {
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let loopback = match address.ip() {
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
        };
        address.set_ip(loopback);
    }
    address
}

fn talk(mut stream: impl Read + Write, address: &Address) -> std::io::Result<String> {
    write!(stream, "GET /readyz HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    stream.flush()?;
    let mut answer = Vec::new();
    match stream.take(MOST).read_to_end(&mut answer) {
        // TLS peers may end without saying good-bye; what counts is whether an answer came.
        Err(error) if answer.is_empty() => Err(error),
        _ => Ok(String::from_utf8_lossy(&answer).into_owned()),
    }
}

fn judge(address: &Address, answer: &str) -> Result<String, Failure> {
    let status = answer.split_whitespace().nth(1).unwrap_or("");
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let report: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let all = report["conditions"].as_array().cloned().unwrap_or_default();
    let failed: Vec<String> = all
        .iter()
        .filter(|condition| condition["ok"] == false)
        .map(|condition| format!("{}: {}", text(&condition["name"]), text(&condition["detail"])))
        .collect();
    let reasons = if failed.is_empty() { String::new() } else { format!(" ({})", failed.join("; ")) };
    match status {
        "200" if report["conditions"].is_array() => Ok(format!("ready{reasons}\n")),
        "503" => Err(Failure::running(format!("not ready{reasons}"))),
        _ => Err(Failure::running(format!("{address} is not this daemon's API: it answered '{status}'"))),
    }
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(answer: &str) -> Result<String, String> {
        judge(&Address::new("h", 1), answer).map_err(|failure| failure.to_string())
    }

    #[test]
    fn one_line_says_how_it_is() {
        assert_eq!(judged("HTTP/1.0 200 OK\r\n\r\n{\"ready\":true,\"conditions\":[]}").unwrap(), "ready\n");
        let detail = r#"{"conditions":[{"name":"log","ok":false,"detail":"full"},{"name":"x","ok":true}]}"#;
        let answer = |status| format!("HTTP/1.0 {status} X\r\nA: b\r\n\r\n{detail}");
        assert_eq!(judged(&answer(200)).unwrap(), "ready (log: full)\n");
        assert_eq!(judged(&answer(503)).unwrap_err(), "not ready (log: full)");
        assert!(judged("HTTP/1.1 200 OK\r\n\r\nhello").unwrap_err().contains("not this daemon's API"));
        assert!(judged("SSH-2.0-x").unwrap_err().contains("not this daemon's API"));
    }
}
