//! The pair of sockets between runner and guard: messages with bounds, sent and received without waiting.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::{Errno, Result};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use crate::report::LONGEST;

/// As many descriptors as one message of this channel carries.
pub(crate) const MOST_DESCRIPTORS: usize = 128;

/// Two ends. Datagrams keep messages apart; that there is a connection tells each end of the other's death.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// Sends one message, or fails with `AGAIN` when the other end does not read.
pub(crate) fn send(to: BorrowedFd<'_>, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::TOOBIG);
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    retry(|| rustix::net::sendmsg(to, &[IoSlice::new(message)], &mut control, flags)).map(drop)
}

/// One message with its descriptors, or fails with `AGAIN` when there is none. An empty one means that the
/// other end is gone.
pub(crate) fn receive(from: BorrowedFd<'_>, wait: bool) -> Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut message = [0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = if wait { RecvFlags::CMSG_CLOEXEC } else { RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT };
    let got = retry(|| rustix::net::recvmsg(from, &mut [IoSliceMut::new(&mut message)], &mut control, flags));
    let length = match got {
        Ok(received) => received.bytes,
        // The other end closed with messages unread, but what it sent before can still be had.
        Err(Errno::CONNRESET) => return receive(from, wait),
        Err(error) => return Err(error),
    };
    let mut descriptors = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            descriptors.extend(rights);
        }
    }
    Ok((message[..length].to_vec(), descriptors))
}

fn retry<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn messages_stay_apart_and_carry_descriptors() {
        let (here, there) = pair().unwrap();
        send(here.as_fd(), b"one", &[here.as_fd(), there.as_fd()]).unwrap();
        send(here.as_fd(), b"two", &[]).unwrap();
        let (message, descriptors) = receive(there.as_fd(), false).unwrap();
        assert_eq!((&message[..], descriptors.len()), (&b"one"[..], 2));
        drop(descriptors);
        assert_eq!(receive(there.as_fd(), false).unwrap().0, b"two");
        assert_eq!(receive(there.as_fd(), false).unwrap_err(), Errno::AGAIN);
    }

    #[test]
    fn the_last_words_of_an_end_that_closed_on_unread_messages_are_read() {
        let (here, there) = pair().unwrap();
        send(there.as_fd(), b"last", &[]).unwrap();
        send(here.as_fd(), b"unread", &[]).unwrap();
        drop(there);
        assert_eq!(receive(here.as_fd(), false).unwrap().0, b"last");
        assert_eq!(receive(here.as_fd(), false).unwrap().0, b"");
        assert_eq!(send(here.as_fd(), b"more", &[]).unwrap_err(), Errno::PIPE);
    }

    #[test]
    fn an_end_that_reads_nothing_holds_nobody() {
        let (here, _there) = pair().unwrap();
        let refused = (0..100_000).find_map(|_| send(here.as_fd(), b"more", &[]).err());
        assert_eq!(refused, Some(Errno::AGAIN));
    }
}
