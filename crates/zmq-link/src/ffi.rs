//! What the binding leaves out of libzmq: every line of unsafe code of this crate.
#![expect(unsafe_code, reason = "calls into libzmq and on descriptors that libzmq owns")]

use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use zeroize::Zeroizing;

pub(crate) use zmq_sys::{
    ZMQ_EVENT_ACCEPT_FAILED, ZMQ_EVENT_ACCEPTED, ZMQ_EVENT_CONNECT_RETRIED, ZMQ_EVENT_CONNECTED,
    ZMQ_EVENT_DISCONNECTED, ZMQ_EVENT_HANDSHAKE_FAILED_AUTH, ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL,
    ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL, ZMQ_EVENT_HANDSHAKE_SUCCEEDED, ZMQ_EVENT_MONITOR_STOPPED,
    ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC, ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH,
};

/// Not in the binding: without it, a CURVE server whose ZAP handler is gone lets everybody in.
const ZMQ_ZAP_ENFORCE_DOMAIN: c_int = 93;

// SAFETY: the signature of zmq.h, where it is since libzmq 4.2.
unsafe extern "C" {
    fn zmq_curve_public(public_z85: *mut c_char, secret_z85: *const c_char) -> c_int;
}

fn last_error() -> io::Error {
    // SAFETY: reads the calling thread's errno.
    io::Error::from_raw_os_error(unsafe { zmq_sys::zmq_errno() })
}

fn c_endpoint(endpoint: &str) -> io::Result<CString> {
    CString::new(endpoint).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a NUL byte in it"))
}

/// Binds. The binding's own call panics on errors that it has no name for, such as a read-only file system.
pub(crate) fn bind(socket: &mut zmq::Socket, endpoint: &str) -> io::Result<()> {
    let endpoint = c_endpoint(endpoint)?;
    // SAFETY: the socket is open and borrowed by this thread alone, the string ends with NUL.
    let result = unsafe { zmq_sys::zmq_bind(socket.as_mut_ptr(), endpoint.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

/// Connects; see [`bind`].
pub(crate) fn connect(socket: &mut zmq::Socket, endpoint: &str) -> io::Result<()> {
    let endpoint = c_endpoint(endpoint)?;
    // SAFETY: as in `bind`.
    let result = unsafe { zmq_sys::zmq_connect(socket.as_mut_ptr(), endpoint.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

/// Has libzmq refuse every handshake that no ZAP handler has decided on.
pub(crate) fn enforce_zap(socket: &mut zmq::Socket) -> io::Result<()> {
    let on: c_int = 1;
    let value: *const c_int = &raw const on;
    // SAFETY: the socket is open and borrowed by this thread alone; the value outlives the call.
    let result = unsafe {
        zmq_sys::zmq_setsockopt(
            socket.as_mut_ptr(),
            ZMQ_ZAP_ENFORCE_DOMAIN,
            value.cast::<c_void>(),
            size_of::<c_int>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

/// The Z85 text of the public key that belongs to a secret one, also given as Z85.
pub(crate) fn curve_public(secret_z85: &str) -> io::Result<String> {
    let secret = Zeroizing::new([secret_z85.as_bytes(), &[0]].concat());
    let mut public = [0_u8; 41];
    if secret.len() != public.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a key is 40 characters of Z85"));
    }
    // SAFETY: both buffers have the 41 bytes that the call reads and writes, the first ends with NUL.
    let result =
        unsafe { zmq_curve_public(public.as_mut_ptr().cast::<c_char>(), secret.as_ptr().cast::<c_char>()) };
    if result != 0 {
        return Err(last_error());
    }
    Ok(public[..40].iter().copied().map(char::from).collect())
}

/// Who is at the other end of a connection of libzmq's, as `ip:port`.
///
/// libzmq may have closed it by now, and the number may be another descriptor's: good for a log, not for a decision.
pub(crate) fn peer_of(fd: RawFd) -> Option<String> {
    if fd < 0 {
        return None;
    }
    // SAFETY: the borrow lasts for one system call that only asks; a stale number makes it fail or answer for another.
    let address = rustix::net::getpeername(unsafe { BorrowedFd::borrow_raw(fd) }).ok().flatten()?;
    let address = std::net::SocketAddr::try_from(address).ok()?;
    let ip = address.ip().to_canonical();
    Some(std::net::SocketAddr::new(ip, address.port()).to_string())
}
