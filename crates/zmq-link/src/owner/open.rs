//! Sockets with all their settings.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use zmq::{Context, Socket};

use crate::error::LinkError;
use crate::ffi;
use crate::key::KeyPair;
use crate::options::{DealerOptions, RouterOptions, Security, ServerSecurity, SocketOptions};

/// TCP's own signs of life, for what heartbeats cannot see: a connection that never finished its handshake.
const KEEPALIVE_IDLE_S: i32 = 30;
const KEEPALIVE_INTERVAL_S: i32 = 5;
const KEEPALIVE_COUNT: i32 = 3;

/// Sets options and names the one that is refused.
struct Setting<'a>(&'a SocketOptions);

impl Setting<'_> {
    fn done(&self, option: &'static str, result: zmq::Result<()>) -> Result<(), LinkError> {
        result.map_err(|error| self.refused(option, error.into()))
    }

    fn refused(&self, option: &'static str, source: io::Error) -> LinkError {
        LinkError::Option { socket: self.0.name.clone(), option, source }
    }

    fn common(&self, socket: &Socket, endpoint: &str) -> Result<(), LinkError> {
        let options = self.0;
        let done = |option, result| self.done(option, result);
        let largest = i64::try_from(options.max_message).unwrap_or(i64::MAX);
        done("MAXMSGSIZE", socket.set_maxmsgsize(largest))?;
        done("SNDHWM", socket.set_sndhwm(options.high_water_mark))?;
        done("RCVHWM", socket.set_rcvhwm(options.high_water_mark))?;
        done("LINGER", socket.set_linger(0))?;
        done("IPV6", socket.set_ipv6(!is_ipv4(endpoint)))?;
        done("HANDSHAKE_IVL", socket.set_handshake_ivl(millis(options.handshake)))?;
        done("HEARTBEAT_IVL", socket.set_heartbeat_ivl(millis(options.heartbeat)))?;
        let silence = millis(options.heartbeat_timeout);
        done("HEARTBEAT_TIMEOUT", socket.set_heartbeat_timeout(silence))?;
        // What the other end is told to do when we fall silent.
        done("HEARTBEAT_TTL", socket.set_heartbeat_ttl(silence))?;
        done("TCP_KEEPALIVE", socket.set_tcp_keepalive(1))?;
        done("TCP_KEEPALIVE_IDLE", socket.set_tcp_keepalive_idle(KEEPALIVE_IDLE_S))?;
        done("TCP_KEEPALIVE_INTVL", socket.set_tcp_keepalive_intvl(KEEPALIVE_INTERVAL_S))?;
        done("TCP_KEEPALIVE_CNT", socket.set_tcp_keepalive_cnt(KEEPALIVE_COUNT))
    }

    fn pair(&self, socket: &Socket, key: &KeyPair) -> Result<(), LinkError> {
        self.done("CURVE_PUBLICKEY", socket.set_curve_publickey(key.public().as_bytes()))?;
        self.done("CURVE_SECRETKEY", socket.set_curve_secretkey(key.secret()))
    }
}

/// With IPv6 on, libzmq would call 127.0.0.1 `[::ffff:127.0.0.1]`, in its answers and in logs.
fn is_ipv4(endpoint: &str) -> bool {
    let host = endpoint.strip_prefix("tcp://").and_then(|rest| rest.rsplit_once(':'));
    host.is_some_and(|(host, _)| host.parse::<Ipv4Addr>().is_ok())
}

/// libzmq takes a larger port for another one.
fn check_port(endpoint: &str) -> io::Result<()> {
    let port = endpoint.strip_prefix("tcp://").and_then(|rest| rest.rsplit_once(':')).map(|(_, port)| port);
    if port.is_some_and(|port| port != "*" && port.parse::<u16>().is_err()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the port is not a number from 0 to 65535"));
    }
    Ok(())
}

fn millis(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX).max(1)
}

/// A ROUTER that is not bound yet. `domain` is what the ZAP thread knows it by.
pub(super) fn router(context: &Context, options: &RouterOptions, domain: &str) -> Result<Socket, LinkError> {
    let setting = Setting(&options.socket);
    let mut socket = context.socket(zmq::ROUTER).map_err(|error| setting.refused("ROUTER", error.into()))?;
    setting.common(&socket, &options.endpoint)?;
    setting.done("ROUTER_MANDATORY", socket.set_router_mandatory(true))?;
    let plain = matches!(options.security, Security::PlainText);
    setting.done("ROUTER_HANDOVER", socket.set_router_handover(plain))?;
    if let Security::Curve { key, .. } = &options.security {
        setting.pair(&socket, key)?;
        setting.done("CURVE_SERVER", socket.set_curve_server(true))?;
        setting.done("ZAP_DOMAIN", socket.set_zap_domain(domain))?;
        ffi::enforce_zap(&mut socket).map_err(|error| setting.refused("ZAP_ENFORCE_DOMAIN", error))?;
    }
    Ok(socket)
}

/// Binds and tells the address that was bound in the end.
pub(super) fn bind(socket: &mut Socket, name: &str, endpoint: &str) -> Result<String, LinkError> {
    let failed = |source| LinkError::Endpoint {
        socket: name.to_owned(),
        doing: "listen on",
        endpoint: endpoint.to_owned(),
        source,
    };
    check_port(endpoint).and_then(|()| ffi::bind(socket, endpoint)).map_err(failed)?;
    let bound = socket.get_last_endpoint().map_err(|error| failed(error.into()))?;
    bound.map_err(|_| failed(io::ErrorKind::InvalidData.into()))
}

/// Gives a listening socket another pair, for the connections of its next bind.
pub(super) fn change_key(socket: &Socket, options: &SocketOptions, key: &KeyPair) -> Result<(), LinkError> {
    Setting(options).pair(socket, key)
}

/// A DEALER that is not connected yet.
pub(super) fn dealer(context: &Context, options: &DealerOptions) -> Result<Socket, LinkError> {
    let setting = Setting(&options.socket);
    let socket = context.socket(zmq::DEALER).map_err(|error| setting.refused("DEALER", error.into()))?;
    setting.common(&socket, &options.endpoint)?;
    setting.done("IMMEDIATE", socket.set_immediate(true))?;
    setting.done("RECONNECT_IVL", socket.set_reconnect_ivl(millis(options.reconnect)))?;
    setting.done("RECONNECT_IVL_MAX", socket.set_reconnect_ivl_max(millis(options.reconnect_max)))?;
    if let ServerSecurity::Curve { key, server } = &options.security {
        setting.pair(&socket, key)?;
        setting.done("CURVE_SERVERKEY", socket.set_curve_serverkey(server.as_bytes()))?;
    }
    Ok(socket)
}

/// Connects; libzmq does it in the background and goes on trying.
pub(super) fn connect(socket: &mut Socket, options: &DealerOptions) -> Result<(), LinkError> {
    let done = check_port(&options.endpoint).and_then(|()| ffi::connect(socket, &options.endpoint));
    done.map_err(|source| LinkError::Endpoint {
        socket: options.socket.name.clone(),
        doing: "connect to",
        endpoint: options.endpoint.clone(),
        source,
    })
}
