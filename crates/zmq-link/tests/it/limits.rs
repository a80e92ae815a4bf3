//! Sizes and numbers beyond the bounds.

use zmq_link::{Discard, EventKind, Multipart, SendError};

use crate::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_before_it_is_sent() {
    let link = link();
    let mut options = plain_router();
    options.socket.max_message = 1000;
    options.socket.max_frames = 2;
    let (router, _dealer, to) = connected(&link, options).await;
    let sender = router.sender();
    let two: Multipart = [vec![0; 500], vec![0; 500]].into_iter().collect();
    sender.deliver(&to, two).await.unwrap();
    let large: Multipart = [vec![0; 500], vec![0; 501]].into_iter().collect();
    assert_eq!(sender.send(&to, large).await, Err(SendError::TooLarge));
    let many: Multipart = [vec![], vec![], vec![]].into_iter().collect();
    assert_eq!(sender.try_send(&to, many).unwrap_err().error, SendError::TooLarge);
    assert_eq!(sender.send(&to, Multipart::default()).await, Err(SendError::Empty));
    assert_eq!(router.counters().refused_too_large, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_beyond_the_bounds_is_discarded_and_told() {
    let link = link();
    let mut options = plain_router();
    options.socket.max_message = 1000;
    options.socket.max_frames = 2;
    let (mut router, dealer, from) = connected(&link, options).await;
    let mut events = router.events();
    let sender = dealer.sender();
    sender.send([vec![0; 600], vec![0; 600]].into_iter().collect()).await.unwrap();
    sender.send([vec![1], vec![2], vec![3]].into_iter().collect()).await.unwrap();
    sender.send(text("fits")).await.unwrap();
    assert_eq!(&next(&mut router).await.message[0][..], b"fits");
    assert_eq!(router.counters().inbound_too_large, 2);
    let told = event("the event", &mut events, |kind| matches!(kind, EventKind::Discarded { .. })).await;
    assert_eq!(told.kind, EventKind::Discarded { from, reason: Discard::TooLarge });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_beyond_the_bound_ends_the_connection_before_it_is_read() {
    let link = link();
    let mut options = plain_router();
    options.socket.max_message = 1000;
    let (mut router, dealer, _) = connected(&link, options).await;
    let (mut here, mut there) = (dealer.events(), router.events());
    dealer.sender().send(numbered(0, 1001)).await.unwrap();
    event("the client's event", &mut here, |kind| *kind == EventKind::Disconnected).await;
    event("the server's event", &mut there, |kind| *kind == EventKind::Disconnected).await;
    dealer.sender().send(text("again")).await.unwrap();
    assert_eq!(&next(&mut router).await.message[0][..], b"again");
}
