//! Three contenders under random faults on real servers: never two of them at once, and one again afterwards.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stderr, reason = "what was done is worth seeing")]

#[path = "support/servers.rs"]
mod servers;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use gone::lease::Timing;
use gone::lock::dial;
use gone::{Keeper, Options, clock};
use servers::Server;
use testkit::{FaultLink, Rng, eventually, patience, seed};

/// When, with which token, who.
type Beat = (Duration, u64, usize);

/// A contender on a link of its own, in a runtime that is dropped to kill it.
struct Runner {
    link: FaultLink,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Runner {
    fn start(&mut self, url: &str, expiry: Duration, who: usize, beats: &Arc<Mutex<Vec<Beat>>>) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let _inside = runtime.enter();
        let timing = Timing::of(expiry);
        let options = Options { timing, address: format!("tcp://runner:{who}"), ..Options::default() };
        let handle = Keeper::new(dial(url).unwrap(), "it", options).unwrap().start().unwrap();
        let beats = beats.clone();
        runtime.spawn(handle.run_while_held(move |turn| {
            let beats = beats.clone();
            async move {
                // As a child that does not hear SIGTERM: it ends where it is dropped.
                loop {
                    beats.lock().unwrap().push((clock::now(), turn.token, who));
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        }));
        self.runtime = Some(runtime);
    }

    fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn faults(mut server: Server, usual: u64) {
    let kills: u64 = std::env::var("MUSTER_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let mut rng = Rng::new(seed());
    let expiry = server.expiry();
    let beats: Arc<Mutex<Vec<Beat>>> = Arc::default();
    let mut runners: Vec<Runner> =
        (0..3).map(|_| Runner { link: FaultLink::to(server.addr()), runtime: None }).collect();
    let urls: Vec<String> = runners.iter().map(|runner| server.url_at(runner.link.addr())).collect();
    for (who, runner) in runners.iter_mut().enumerate() {
        runner.start(&urls[who], expiry, who, &beats);
    }
    let holder = || beats.lock().unwrap().last().map_or(0, |(_, _, who)| *who);
    let holds_again = async || {
        let since = clock::now();
        eventually("a holder again", patience(expiry * 3 + Duration::from_secs(5)), async || {
            let last = beats.lock().unwrap().last().copied();
            last.filter(|(at, ..)| *at > since)
        })
        .await;
    };
    holds_again().await;
    for number in 0..kills {
        let (at, kind) =
            (if rng.within(0..3) > 0 { holder() } else { rng.within(0..3) as usize }, rng.within(0..8));
        let long = expiry.mul_f64(0.2 + rng.within(0..13) as f64 / 10.0);
        let name =
            ["dead link", "cut link", "reset", "slow link", "killed", "anchor", "restart", "data lost"];
        eprintln!("{number}: {} at {at} for {long:?}", name[kind as usize]);
        match kind {
            0 => runners[at].link.blackhole(),
            1 => runners[at].link.cut(),
            2 => runners[at].link.reset(),
            3 => runners[at].link.delay(Duration::from_millis(60)),
            4 => runners[at].kill(),
            5 => server.kill_the_holders_anchor().await,
            6 => server.restart(false).await,
            _ => server.restart(true).await,
        }
        tokio::time::sleep(long).await;
        runners[at].link.heal();
        if runners[at].runtime.is_none() {
            runners[at].start(&urls[at], expiry, at, &beats);
        }
        holds_again().await;
    }
    runners.iter_mut().for_each(Runner::kill);
    let mut beats = beats.lock().unwrap().clone();
    beats.sort_unstable();
    let mut terms: Vec<Beat> = beats.clone();
    terms.dedup_by_key(|(_, token, who)| (*token, *who));
    for pair in terms.windows(2) {
        // Grown, and never back: two at once would come in turns.
        assert!(pair[0].1 < pair[1].1, "two at once, or a token that did not grow: {pair:?}");
    }
    eprintln!("kills={kills} terms={} beats={}", terms.len(), beats.len());
}

#[tokio::test]
async fn kills_etcd() {
    faults(Server::etcd().await, 6).await;
}

#[tokio::test]
async fn kills_consul() {
    faults(Server::consul().await, 2).await;
}
