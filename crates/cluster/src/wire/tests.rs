//! Frames that come back, and what is none.

use proptest::prelude::*;

use super::*;

fn round_trip(frame: Frame) {
    assert_eq!(Frame::decode(frame.encode()).unwrap(), frame);
}

#[test]
fn each_frame_comes_back_as_it_went() {
    let greeting = Greeting {
        incarnation: 7,
        epoch: 3,
        stream: 8,
        window_bytes: 4,
        window_messages: 5,
        seen: Some(Seen { stream: 9, next: 12, acked: 11 }),
    };
    round_trip(Frame::Hello(greeting));
    round_trip(Frame::Welcome(Greeting { seen: None, ..greeting }));
    Refusal::ALL.into_iter().for_each(|refusal| round_trip(Frame::Refuse(refusal)));
    round_trip(Frame::Refuse(Refusal::Other(77)));
    for frame in [Frame::Closed, Frame::Ack(1), Frame::Ping(2, 9), Frame::Pong(3), Frame::Goodbye(4)] {
        round_trip(frame);
    }
    round_trip(Frame::Start(u64::MAX));
    round_trip(Frame::Window(3, 4));
    assert_eq!(Frame::decode(Bytes::from_static(&[2, 1])), Err(WireError::Version(2)));
    assert_eq!(Frame::decode(Bytes::from_static(&[1, 99])), Err(WireError::Malformed));
}

proptest! {
    #[test]
    fn records_come_back(first in 0..1_000_000_u64, records: Vec<(u64, bool, Vec<u8>)>) {
        let mut batch = Batch::new(0, first, 0);
        let mut wanted = Vec::new();
        for (position, (sequence, direct, payload)) in (first..).zip(records) {
            let kind = if direct { Kind::Direct } else { Kind::Broadcast };
            let label = direct.then_some("text/plain");
            batch.push(sequence, kind, label, &payload);
            let (label, payload) = (label.map(Into::into), payload.into());
            wanted.push(Record { position, sequence, kind, label, payload });
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let Ok(Frame::Data(body)) = Frame::decode(batch.finish()) else { panic!("no data frame") };
        let mut records = Records::new(body).unwrap();
        for record in wanted {
            prop_assert_eq!(records.next(), Some(Ok(record)));
        }
        prop_assert_eq!(records.next(), None);
    }

    #[test]
    fn whatever_comes_is_no_panic(bytes: Vec<u8>) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = VERSION;
        }
        if let Ok(Frame::Data(body)) = Frame::decode(bytes.into())
            && let Ok(mut records) = Records::new(body)
        {
            while let Some(Ok(_)) = records.next() {}
        }
    }
}
