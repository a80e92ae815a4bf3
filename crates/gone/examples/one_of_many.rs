//! One of many counts aloud and takes what is sent to it. Start it on several terminals or hosts, and end the
//! one that counts:
//!
//! ```sh
//! cargo run --example one_of_many -- redis://127.0.0.1:6379
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use gone::lease::Timing;
use gone::message::Encryption;
use gone::node::{Gone, Runner, Settings};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned());
    let mut settings = Settings::new(Encryption::PlainText);
    settings.timing = Timing::of(Duration::from_secs(5));
    let gone = Gone::with("tcp://127.0.0.1:0", gone::lock::dial(&url)?, settings).await?;
    println!("waiting for my turn, as {}", gone.address());
    let running = gone.run_one("counter", count)?;
    loop {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let me = std::process::id();
        match gone.send_data("counter", format!("hello from {me}")).await {
            Ok(_) => {}
            Err(error) => println!("not sent: {error}"),
        }
        if running.is_over() {
            return Ok(());
        }
    }
}

async fn count(mut runner: Runner) {
    println!("my turn, token {}", runner.token);
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    for number in 1.. {
        tokio::select! {
            _ = ticks.tick() => println!("{number}"),
            Some(message) = runner.data.recv() => println!("got {}", String::from_utf8_lossy(&message)),
            () = runner.exit.wait() => break,
        }
    }
    println!("no longer my turn");
}
