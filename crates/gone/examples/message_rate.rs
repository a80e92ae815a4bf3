//! Messages a second from a sender to a child that takes them at once, and over bare libzmq, in one sitting:
//! `cargo run --release -p gone --example message_rate -- [ROUNDS] [SECONDS]`
//!
//! `ours` is [`gone::message`] whole: pipelined sends, each acknowledged. `single` is one send after the other.
//! `dealer/router` is one way without any answer, `req/rep` an empty answer to each. Prints medians of rounds
//! that take turns, after a warm-up, and the ratios round by round.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring program")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gone::message::stdin::Form;
use gone::message::{
    Encryption, HolderLimits, Inbox, InboxOptions, Outbox, OutboxOptions, Patience, Whereabouts,
};

const WAIT: Patience = Patience { timeout: None, only_absence: false, wait: true };

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<f64>().unwrap());
    let rounds = args.next().unwrap_or(5.0) as usize;
    let seconds = Duration::from_secs_f64(args.next().unwrap_or(1.0));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    println!(
        "   bytes  dealer/router      req/rep         ours       single  ours:dealer/router  single:req/rep"
    );
    for bytes in [64, 1024, 65_536] {
        let mut table: [Vec<f64>; 6] = Default::default();
        for round in 0..=rounds {
            let raw = dealer_router(bytes, seconds);
            let req = req_rep(bytes, seconds);
            let ours = runtime.block_on(ours(bytes, seconds, true));
            let single = runtime.block_on(self::ours(bytes, seconds, false));
            // The first round warms up.
            if round > 0 {
                let row = [raw, req, ours, single, ours / raw, single / req];
                table.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
            }
        }
        let [raw, req, ours, single, ratio, single_ratio] = table.map(median);
        println!(
            "{bytes:>8} {raw:>12.0}/s {req:>10.0}/s {ours:>10.0}/s {single:>10.0}/s {ratio:>19.2} {single_ratio:>15.2}"
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn bound(kind: zmq::SocketType) -> (zmq::Socket, String) {
    let socket = zmq::Context::new().socket(kind).unwrap();
    socket.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = socket.get_last_endpoint().unwrap().unwrap();
    (socket, endpoint)
}

fn connected(kind: zmq::SocketType, endpoint: &str) -> zmq::Socket {
    let socket = zmq::Context::new().socket(kind).unwrap();
    socket.connect(endpoint).unwrap();
    socket
}

/// One way: an empty message ends it.
fn dealer_router(bytes: usize, seconds: Duration) -> f64 {
    let (router, endpoint) = bound(zmq::ROUTER);
    let dealer = connected(zmq::DEALER, &endpoint);
    let start = Instant::now();
    let sending = std::thread::spawn(move || {
        let body = vec![7_u8; bytes];
        while start.elapsed() < seconds {
            (0..100).for_each(|_| dealer.send(&body[..], 0).unwrap());
        }
        dealer.send("", 0).unwrap();
        dealer
    });
    let (mut message, mut count) = (zmq::Message::new(), 0_u64);
    loop {
        router.recv(&mut message, 0).unwrap();
        router.recv(&mut message, 0).unwrap();
        if message.is_empty() {
            break;
        }
        count += 1;
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    drop(sending.join().unwrap());
    rate
}

fn req_rep(bytes: usize, seconds: Duration) -> f64 {
    let (rep, endpoint) = bound(zmq::REP);
    let answering = std::thread::spawn(move || {
        let mut message = zmq::Message::new();
        loop {
            rep.recv(&mut message, 0).unwrap();
            rep.send("", 0).unwrap();
            if message.is_empty() {
                return;
            }
        }
    });
    let req = connected(zmq::REQ, &endpoint);
    let (body, start, mut count) = (vec![7_u8; bytes], Instant::now(), 0_u64);
    while start.elapsed() < seconds {
        req.send(&body[..], 0).unwrap();
        req.recv_bytes(0).unwrap();
        count += 1;
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    req.send("", 0).unwrap();
    req.recv_bytes(0).unwrap();
    answering.join().unwrap();
    rate
}

async fn ours(bytes: usize, seconds: Duration, pipelined: bool) -> f64 {
    let options = InboxOptions {
        listen: "tcp://127.0.0.1:*".into(),
        encryption: Encryption::PlainText,
        limits: HolderLimits::default(),
        compat: false,
    };
    let inbox = Inbox::listen(options).await.unwrap();
    let mut turn = inbox.begin("job", 1, Form::Frames, Arc::new(|| true));
    let holder = Whereabouts { address: inbox.endpoint().to_owned(), token: 1 };
    let look_up = move |_| std::future::ready(Ok(Some(holder.clone())));
    let outbox = Outbox::new(OutboxOptions::new(Encryption::PlainText), look_up).unwrap();
    let child = tokio::spawn(async move {
        let mut taken = Vec::new();
        while turn.recv(&mut taken).await {
            turn.acknowledge(taken[taken.len() - 1].n).unwrap();
            taken.clear();
        }
    });
    let (body, start) = (Bytes::from(vec![7_u8; bytes]), Instant::now());
    let (receipts, mut received) = tokio::sync::mpsc::channel(64);
    let sending = tokio::spawn(async move {
        let (mut count, mut portion) = (0_u64, Vec::new());
        while count % 64 > 0 || start.elapsed() < seconds {
            let mut receipt = outbox.enqueue("job", body.clone(), WAIT).await.unwrap();
            count += 1;
            if !pipelined {
                receipt.settled().await.unwrap();
                continue;
            }
            portion.push(receipt);
            if portion.len() == 64 {
                receipts.send(std::mem::take(&mut portion)).await.unwrap();
            }
        }
        drop(receipts);
        (count, outbox)
    });
    while let Some(portion) = received.recv().await {
        for mut receipt in portion {
            receipt.settled().await.unwrap();
        }
    }
    let (count, _outbox) = sending.await.unwrap();
    let rate = count as f64 / start.elapsed().as_secs_f64();
    child.abort();
    rate
}
