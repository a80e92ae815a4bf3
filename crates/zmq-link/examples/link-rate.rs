//! Messages a second through the handles and over bare libzmq, in one sitting:
//! `cargo run --release -p zmq-link --example link-rate -- [BYTES] [MESSAGES] [ROUNDS]`
//!
//! Prints a line per round, with the processor's time a message in microseconds (all threads), and the median of
//! the ratios of rates and of processor times; the latter hold on a busy machine too. Same sockets, same addresses, one message a send call on
//! the bare side; on ours `single` is one call a message, `batch` is 100.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring program")]

use std::time::Instant;

use zmq_link::{DealerOptions, Link, Multipart, RouterOptions, Security, ServerSecurity};

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>().unwrap());
    let bytes = args.next().unwrap_or(64);
    let messages = args.next().unwrap_or(1_000_000);
    let rounds = args.next().unwrap_or(5);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (mut single, mut batch, mut single_cpu, mut batch_cpu) = (vec![], vec![], vec![], vec![]);
    for round in 0..=rounds {
        let (bare, bare_cpu) = timed(messages, || bare(bytes, messages));
        let (one, one_cpu) = timed(messages, || runtime.block_on(ours(bytes, messages, 1)));
        let (many, many_cpu) = timed(messages, || runtime.block_on(ours(bytes, messages, 100)));
        println!(
            "{bytes} B: bare {bare:>8.0}/s {bare_cpu:.2} us  single {one:>8.0}/s {one_cpu:.2} us  \
             batch {many:>8.0}/s {many_cpu:.2} us"
        );
        // The first round warms up.
        if round > 0 {
            single.push(one / bare);
            batch.push(many / bare);
            single_cpu.push(bare_cpu / one_cpu);
            batch_cpu.push(bare_cpu / many_cpu);
        }
    }
    let (single, batch) = (median(single), median(batch));
    println!("{bytes} B: rate, ours to bare: single {single:.2}, batch {batch:.2}");
    let (single, batch) = (median(single_cpu), median(batch_cpu));
    println!("{bytes} B: messages a processor second, ours to bare: single {single:.2}, batch {batch:.2}");
}

/// The rate, and the microseconds of processor time a message.
fn timed(messages: usize, run: impl FnOnce() -> f64) -> (f64, f64) {
    let before = processor_seconds();
    let rate = run();
    (rate, (processor_seconds() - before) * 1e6 / messages as f64)
}

/// Of all threads so far, also those that have ended, in steps of 10 ms.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn median(mut ratios: Vec<f64>) -> f64 {
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

/// DEALER to ROUTER, a thread at each end.
fn bare(bytes: usize, messages: usize) -> f64 {
    let (here, there) = (zmq::Context::new(), zmq::Context::new());
    let router = there.socket(zmq::ROUTER).unwrap();
    router.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = router.get_last_endpoint().unwrap().unwrap();
    let dealer = here.socket(zmq::DEALER).unwrap();
    dealer.connect(&endpoint).unwrap();
    let start = Instant::now();
    let sending = std::thread::spawn(move || {
        let body = vec![7_u8; bytes];
        for _ in 0..messages {
            dealer.send(&body[..], 0).unwrap();
        }
        dealer
    });
    let mut message = zmq::Message::new();
    for _ in 0..messages {
        router.recv(&mut message, 0).unwrap();
        router.recv(&mut message, 0).unwrap();
        assert_eq!(message.len(), bytes);
    }
    let rate = messages as f64 / start.elapsed().as_secs_f64();
    drop(sending.join().unwrap());
    rate
}

async fn ours(bytes: usize, messages: usize, at_once: usize) -> f64 {
    let (here, there) = (Link::start("here").unwrap(), Link::start("there").unwrap());
    let options = RouterOptions::new("server", "tcp://127.0.0.1:*", Security::PlainText);
    let mut router = there.router(options).await.unwrap();
    let options = DealerOptions::new("client", router.endpoint(), ServerSecurity::PlainText);
    let dealer = here.dealer(options).await.unwrap();
    let (sender, body) = (dealer.sender(), bytes::Bytes::from(vec![7_u8; bytes]));
    let start = Instant::now();
    let sending = tokio::spawn(async move {
        for _ in 0..messages / at_once {
            if at_once == 1 {
                sender.send(Multipart::single(body.clone())).await.unwrap();
            } else {
                let batch = std::iter::repeat_with(|| Multipart::single(body.clone())).take(at_once);
                sender.send_all(batch).await.unwrap();
            }
        }
    });
    let (mut taken, mut count) = (Vec::new(), 0);
    while count < messages {
        count += router.recv_many(&mut taken).await;
        assert!(taken.drain(..).all(|incoming| incoming.message[0].len() == bytes));
    }
    let rate = messages as f64 / start.elapsed().as_secs_f64();
    sending.await.unwrap();
    rate
}
