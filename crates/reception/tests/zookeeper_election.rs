//! Elections on ZooKeeper through the whole library.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod zoo;

use std::time::{Duration, Instant};

use reception::{Elector, Options};
use supervise::Boottime;
use testkit::{FaultLink, ZooKeeperServer, eventually};

use zoo::{FAST, LIMIT, options, service};

struct Candidate {
    link: FaultLink,
    elector: Elector,
}

fn stand(server: &ZooKeeperServer, id: &str, options: &Options) -> Candidate {
    let link = FaultLink::to(server.addr());
    let client = reception::dial(&format!("zk://{}", link.addr()), options.clone()).unwrap();
    Candidate { link, elector: client.elector(service(id)) }
}

fn leads(candidate: &Candidate) -> Option<u64> {
    match candidate.elector.now() {
        reception::Candidate::Leading { token, .. } => Some(token),
        _ => None,
    }
}

/// Who leads; panics when two do.
fn leader(candidates: &[Candidate]) -> Option<(usize, u64)> {
    let leading: Vec<_> =
        candidates.iter().enumerate().filter_map(|(number, one)| Some((number, leads(one)?))).collect();
    assert!(leading.len() < 2, "two lead: {leading:?}");
    leading.first().copied()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_steps_down_before_the_next_one_leads() {
    let server = ZooKeeperServer::with_tick(FAST).await;
    let options = options();
    let candidates: Vec<_> = ["a", "b", "c"].iter().map(|id| stand(&server, id, &options)).collect();
    let (mut leads_now, mut token) = eventually("a first leader", LIMIT, async || leader(&candidates)).await;
    for round in 0..4 {
        let term_ends = match candidates[leads_now].elector.now() {
            reception::Candidate::Leading { until, .. } => until,
            other => panic!("it led a moment ago: {other:?}"),
        };
        assert!(term_ends > Boottime::now());
        let cut = Instant::now();
        if round % 2 == 0 {
            candidates[leads_now].link.blackhole()
        } else {
            candidates[leads_now].link.cut()
        }
        let (next, new_token) = eventually("another leader", LIMIT, async || {
            leader(&candidates).filter(|(number, _)| *number != leads_now)
        })
        .await;
        assert!(new_token > token, "{new_token} after {token}");
        // 1.5 s of session, 0.3 s of tick, 0.5 s: told for machines with time to spare.
        let took = cut.elapsed();
        assert!(took < testkit::patience(Duration::from_secs(10)), "{took:?}");
        candidates[leads_now].link.heal();
        (leads_now, token) = (next, new_token);
    }
    // Who was cut off stands again, behind the others.
    candidates[leads_now].elector.cancel().await;
    eventually("another leader", LIMIT, async || leader(&candidates).filter(|(_, new)| *new > token)).await;
}
