//! The scripts in Redis do what the rules say: random requests on random records, compared step by step.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use gone::lease::rules::{Contender, Kept, LegacyKey, Record, Reply, Request, Scene, Seen, decide};
use gone::lock::{Id, dial};
use support::{PATIENCE, Raw, listener};
use testkit::RedisServer;
use testkit::Rng;

/// How many requests.
const STEPS: usize = 1600;

/// What Redis has, read by hand. The clock of `TIME` moves, so keys of the original are compared by value.
async fn stored(raw: &mut Raw) -> (Option<Record>, Option<String>) {
    let fields: Vec<Option<String>> = raw
        .ask(&[
            "HMGET",
            "gone:{it}",
            "token",
            "owner",
            "address",
            "expiry_ms",
            "end_us",
            "written_us",
            "released",
            "run",
        ])
        .await;
    let legacy = raw.ask::<Option<String>>(&["GET", "it"]).await;
    let Some(token) = fields[0].clone() else { return (None, legacy) };
    let text = |index: usize| fields[index].clone().unwrap();
    let number = |index: usize| text(index).parse().unwrap();
    let record = Record {
        token: token.parse().unwrap(),
        owner: text(1),
        address: text(2),
        expiry_ms: number(3),
        end_us: number(4),
        written_us: number(5),
        released: text(6) == "1",
        run: text(7),
    };
    (Some(record), legacy)
}

async fn store(raw: &mut Raw, record: Option<&Record>) {
    let _: i64 = raw.ask(&["DEL", "gone:{it}"]).await;
    let Some(record) = record else { return };
    let Record { token, owner, address, expiry_ms, end_us, written_us, released, run } = record;
    let released = if *released { "1" } else { "0" };
    let numbers = [token, expiry_ms, end_us, written_us].map(ToString::to_string);
    let [token, expiry_ms, end_us, written_us] = numbers.each_ref().map(String::as_str);
    let set =
        ["HSET", "gone:{it}", "token", token, "owner", owner, "address", address, "expiry_ms", expiry_ms];
    let more = ["end_us", end_us, "written_us", written_us, "released", released, "run", run];
    let _: i64 = raw.ask(&[&set[..], &more[..]].concat()).await;
}

fn random_record(rng: &mut Rng, now_us: u64, run: &str) -> Option<Record> {
    if rng.percent(15) {
        return None;
    }
    // Never close to now: both sides read the clock once, a little apart.
    let end_us = if rng.percent(50) { now_us - 900_000_000 } else { now_us + 900_000_000 };
    Some(Record {
        token: rng.within(5..9),
        owner: (*rng.pick(&["a", "b", ""])).to_owned(),
        address: (*rng.pick(&["tcp://a:1", "tcp://b:1"])).to_owned(),
        expiry_ms: *rng.pick(&[3000, 3000, 3000, 5000]),
        end_us,
        written_us: now_us - rng.within(0..3),
        released: rng.percent(30),
        run: if rng.percent(75) { run.to_owned() } else { "another".to_owned() },
    })
}

fn random_request(rng: &mut Rng, now_us: u64, record: Option<&Record>) -> Request {
    let end_us = if rng.percent(50) { now_us - 900_000_000 } else { now_us + 900_000_000 };
    match rng.within(0..10) {
        0..4 => {
            let observed = match record {
                Some(record) if rng.percent(40) => Some(record.seen()),
                _ => rng.percent(20).then(|| Seen("run/1/2".into())),
            };
            let floor = *rng.pick(&[0, 6, 20, 9_000_000_000_000]);
            Request::Acquire { observed, floor, fresh: rng.percent(30) }
        }
        4..7 => Request::Renew { token: rng.within(5..9), end_us },
        7..9 => Request::Release { token: rng.within(5..9) },
        _ => Request::Read,
    }
}

/// Times of the reply and of the record that follow from the clock, which the test cannot read at the same moment.
fn without_times(mut kept: Kept, reply: Reply, before: u64) -> (Kept, String) {
    if let Some(record) = &mut kept.record {
        for time in [&mut record.end_us, &mut record.written_us] {
            // Written in this step: how far from the clock is what counts.
            if *time > before && *time < before + 60_000_000 {
                *time = (*time - before + 500_000) / 1_000_000;
            }
        }
        if record.token > 1_000_000_000_000 && record.token < 9_000_000_000_000 {
            record.token = 1;
        }
    }
    kept.legacy = None;
    let reply = match reply {
        Reply::Acquired { token, .. } => {
            format!("acquired {}", if token < 9_000_000_000_000 { 1 } else { token })
        }
        Reply::Renewed { .. } => "renewed".to_owned(),
        Reply::Busy(view) => format!("busy {:?} {} {}", view.standing, view.owner, view.address),
        Reply::Lost(view) => format!("lost {:?} {} {}", view.standing, view.owner, view.token),
        Reply::Shown(view) => format!("shown {:?} {} {}", view.standing, view.owner, view.address),
        other => format!("{other:?}"),
    };
    (kept, reply)
}

#[tokio::test]
async fn the_scripts_follow_the_rules() {
    let server = RedisServer::start().await;
    let mut raw = Raw::connect(&server.url()).await;
    let run = raw.run_id().await;
    let mut rng = Rng::from_env();
    let lock = dial(&server.url()).unwrap();
    let id = Id::new("it").unwrap();
    let mut replies = std::collections::BTreeMap::new();
    for compat in [false, true] {
        let address = "tcp://a:1".to_owned();
        let from = Contender { owner: "a".into(), address, expiry_ms: 3000, compat };
        let mut session = lock.open(&id, &from, PATIENCE, listener().0).await.unwrap();
        for step in 0..STEPS / 2 {
            let now_us = raw.now_us().await;
            let record = random_record(&mut rng, now_us, &run);
            store(&mut raw, record.as_ref()).await;
            let value = (*rng.pick(&["tcp://a:1", "tcp://original:1"])).to_owned();
            let legacy = rng.percent(40).then_some(LegacyKey { value, end_us: now_us + 900_000_000 });
            let _: i64 = raw.ask(&["DEL", "it"]).await;
            if let Some(key) = &legacy {
                let _: String = raw.ask(&["SET", "it", &key.value, "PX", "900000"]).await;
            }
            let request = random_request(&mut rng, now_us, record.as_ref());
            let theirs = session.ask(&request).await.unwrap();
            let (kept_record, kept_legacy) = stored(&mut raw).await;

            let mut kept = Kept { record: record.clone(), legacy: legacy.clone() };
            let (ours, _) = decide(&mut kept, &Scene { now_us, run: &run }, &from, &request);
            let what = format!("step {step}, compat {compat}: {request:?} on {record:?} and {legacy:?}");
            let ours_legacy = kept.legacy.as_ref().map(|key| key.value.clone());
            assert_eq!(ours_legacy, kept_legacy, "{what}");
            let theirs_kept = Kept { record: kept_record, legacy: None };
            let (kept, ours) = without_times(kept, ours, now_us - 1);
            let (theirs_kept, theirs) = without_times(theirs_kept, theirs, now_us - 1);
            assert_eq!(ours, theirs, "{what}");
            assert_eq!(kept, theirs_kept, "{what}");
            *replies.entry(ours.split(' ').next().unwrap().to_owned()).or_insert(0) += 1;
        }
    }
    eprintln!("{replies:?}");
    for kind in ["acquired", "busy", "renewed", "lost", "Released", "OtherExpiry", "shown"] {
        assert!(replies.keys().any(|seen| seen.starts_with(kind)), "no {kind} among {replies:?}");
    }
}
