//! Contenders with real clocks against real stores, through cut and dead links.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gone::lease::rules::Standing;
use gone::lease::{End, State, Timing};
use gone::lock::{Id, Lock, dial};
use gone::{Handle, Keeper, Options, Order, clock};
use support::{LIMIT, PATIENCE, Raw};
use testkit::{FaultLink, RedisServer, TempDir, eventually, patience};

const EXPIRY: Duration = Duration::from_millis(1200);

fn options(fresh: bool) -> Options {
    Options { timing: Timing::of(EXPIRY), address: "tcp://here:1".into(), fresh, compat: false }
}

fn contend(url: &str) -> Handle {
    Keeper::new(dial(url).unwrap(), "it", options(true)).unwrap().start().unwrap()
}

/// The token, as soon as the lease is held.
async fn held(handle: &mut Handle) -> u64 {
    let orders = async {
        loop {
            if let Order::Start { token } = handle.order().await.unwrap() {
                return token;
            }
        }
    };
    let token = tokio::time::timeout(patience(LIMIT), orders).await.expect("the lease is held at last");
    assert_eq!(handle.held().map(|(token, _)| token), Some(token));
    token
}

async fn until(handle: &Handle, what: &str, wanted: impl Fn(&State) -> bool) -> State {
    let mut states = handle.watch();
    let state = tokio::time::timeout(patience(LIMIT), states.wait_for(wanted)).await;
    state.unwrap_or_else(|_| panic!("in vain: {what}")).unwrap().clone()
}

fn stopping(state: &State) -> bool {
    matches!(state, State::Stopping { .. })
}

#[tokio::test]
async fn a_holder_that_stops_hands_over_at_once() {
    let folder = TempDir::new();
    let mut urls = vec![format!("file:{}", folder.display())];
    let server = RedisServer::start().await;
    urls.extend([server.url()]);
    for url in urls {
        let mut a = contend(&url);
        let first = held(&mut a).await;
        let mut b = contend(&url);
        until(&b, "b sees the holder", |state| {
            matches!(state, State::Waiting { standing: Some(Standing::Held), holder } if holder == "tcp://here:1")
        })
        .await;
        a.stop();
        until(&a, "a is told to stop its child", stopping).await;
        assert!(a.held().is_none(), "nothing is acknowledged any more");
        let dead = Instant::now();
        a.child_dead();
        let second = held(&mut b).await;
        eprintln!("{url}: hand-over in {:?}", dead.elapsed());
        // The promise is 100 ms; a machine under test is given ten times as much.
        assert!(dead.elapsed() < patience(Duration::from_millis(1000)), "{:?}", dead.elapsed());
        assert!(second > first);
        assert_eq!(
            until(&a, "a has ended", |state| matches!(state, State::Ended(_))).await,
            State::Ended(End::Stopped)
        );

        // The child of b dies and b stays away: a third takes over, then b contends again.
        let mut c = contend(&url);
        until(&c, "c waits", |state| matches!(state, State::Waiting { standing: Some(_), .. })).await;
        b.give_up(Duration::from_millis(200));
        b.child_dead();
        let third = held(&mut c).await;
        assert!(third > second);
        until(&b, "b waits again", |state| {
            matches!(state, State::Waiting { standing: Some(Standing::Held), .. })
        })
        .await;
        drop(c);
        assert!(held(&mut b).await > third, "a handle that is dropped frees its lease");
    }
}

#[tokio::test]
async fn a_holder_that_dies_is_replaced_when_its_lease_is_over() {
    let folder = TempDir::new();
    let mut urls = vec![(format!("file:{}", folder.display()), Duration::ZERO)];
    let server = RedisServer::start().await;
    urls.push((server.url(), EXPIRY));
    for (url, lasts) in urls {
        // A runtime that is dropped is a runner that was killed: nothing is released.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut a = {
            let _inside = runtime.enter();
            contend(&url)
        };
        let first = held(&mut a).await;
        let mut b = contend(&url);
        until(&b, "b waits", |state| matches!(state, State::Waiting { standing: Some(Standing::Held), .. }))
            .await;
        let (_, deadline) = a.held().unwrap();
        runtime.shutdown_background();
        // The lock's own descriptor goes with the process.
        drop(a);
        let (died, died_at) = (Instant::now(), clock::now());
        let second = held(&mut b).await;
        eprintln!("{url}: replaced {:?} after the death, expiry {EXPIRY:?}", died.elapsed());
        assert!(second > first);
        // The promise is 100 ms more; a machine under test is given ten times as much.
        assert!(died.elapsed() < patience(lasts + Duration::from_millis(1000)), "{:?}", died.elapsed());
        assert!(lasts.is_zero() || clock::now() > deadline, "replaced within its lease, dead at {died_at:?}");
    }
}

#[tokio::test]
async fn a_holder_that_is_cut_off_stops_before_another_starts() {
    let server = RedisServer::start().await;
    let link = FaultLink::to(server.addr());
    let mut a = contend(&format!("redis://{}", link.addr()));
    let first = held(&mut a).await;
    let mut b = contend(&server.url());
    until(&b, "b waits", |state| matches!(state, State::Waiting { standing: Some(Standing::Held), .. }))
        .await;
    let (_, deadline) = a.held().unwrap();
    link.blackhole();
    let began = Instant::now();
    let State::Stopping { deadline: kill_at, .. } = until(&a, "a gives up by its own clock", stopping).await
    else {
        panic!("it is stopping")
    };
    assert!(a.held().is_none());
    // A renewal may have been under way when the link died.
    let latest = deadline + EXPIRY / 2;
    assert!(
        clock::now() < latest,
        "a stopped {:?} after its deadline",
        clock::now().saturating_sub(deadline)
    );
    let second = held(&mut b).await;
    assert!(second > first);
    assert!(
        clock::now() >= kill_at,
        "b began {:?} before a's child is dead",
        kill_at.saturating_sub(clock::now())
    );
    eprintln!("replaced {:?} after the cut, expiry {EXPIRY:?}", began.elapsed());
    assert!(began.elapsed() < patience(EXPIRY + Duration::from_millis(1000)), "{:?}", began.elapsed());
    a.child_dead();
    link.heal();
    until(&a, "a waits again", |state| {
        matches!(state, State::Waiting { standing: Some(Standing::Held), .. })
    })
    .await;
}

#[tokio::test]
async fn a_holder_lives_through_what_the_store_goes_through() {
    let mut server = RedisServer::start().await;
    let link = FaultLink::to(server.addr());
    // Long enough for a slow disk: every write is synced.
    let options = || Options { timing: Timing::of(Duration::from_secs(4)), ..options(true) };
    let contend = |url: &str| Keeper::new(dial(url).unwrap(), "it", options()).unwrap().start().unwrap();
    let mut a = contend(&format!("redis://{}", link.addr()));
    let token = held(&mut a).await;
    // One that would take a store without a record at once, had it not seen a holder.
    let b = contend(&server.url());
    until(&b, "b waits", |state| matches!(state, State::Waiting { standing: Some(Standing::Held), .. }))
        .await;
    let states = a.watch();
    let mut raw = Raw::connect(&server.url()).await;
    for what in ["flush", "kill", "reset", "slow", "restart"] {
        let (_, before) = a.held().unwrap_or_else(|| panic!("lost before {what}"));
        match what {
            "flush" => drop(raw.ask::<String>(&["FLUSHALL"]).await),
            "kill" => drop(raw.ask::<i64>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await),
            "reset" => link.reset(),
            "slow" => link.delay(Duration::from_millis(10)),
            _ => server.restart().await,
        }
        eventually(format!("a renewal after {what}"), LIMIT, async || {
            let (held, deadline) =
                a.held().unwrap_or_else(|| panic!("lost by {what}: {:?}", *states.borrow()));
            assert_eq!(held, token, "{what}");
            (deadline > before + Duration::from_millis(500)).then_some(())
        })
        .await;
    }
    drop(b);
}

#[tokio::test]
async fn another_expiry_and_unsafe_times_are_refused() {
    let server = RedisServer::start().await;
    let lock = dial(&server.url()).unwrap();
    let mut a = contend(&server.url());
    held(&mut a).await;
    let other = Options { timing: Timing::of(EXPIRY * 2), ..options(false) };
    let b = Keeper::new(lock.clone(), "it", other).unwrap().start().unwrap();
    let ended = until(&b, "b is refused", |state| matches!(state, State::Ended(_))).await;
    assert_eq!(ended, State::Ended(End::OtherExpiry { recorded: EXPIRY }));
    let timing = Timing::of(EXPIRY).grace(EXPIRY);
    let error = Keeper::new(lock.clone(), "it", Options { timing, ..options(false) }).unwrap_err();
    assert!(error.to_string().contains("grace 1.2s"), "{error}");
    assert!(Keeper::new(lock.clone(), "", options(false)).is_err());
    assert!(Keeper::new(lock.clone(), "a\nb", options(false)).is_err());
    let view = gone::keeper::look(&*lock, &Id::new("it").unwrap(), false, PATIENCE).await.unwrap();
    assert_eq!((view.standing, view.address.as_str()), (Standing::Held, "tcp://here:1"));
}

#[tokio::test]
async fn a_new_store_is_waited_out_unless_told_otherwise() {
    let server = RedisServer::start().await;
    let began = Instant::now();
    let mut a = Keeper::new(dial(&server.url()).unwrap(), "it", options(false)).unwrap().start().unwrap();
    held(&mut a).await;
    assert!(
        began.elapsed() >= EXPIRY * 99 / 100,
        "held after {:?} in a store without a mark",
        began.elapsed()
    );
}

/// Work inside the process: never two at once, and again and again while links break.
#[tokio::test]
async fn work_runs_one_at_a_time_while_links_break() {
    let server = RedisServer::start().await;
    let mut rng = testkit::Rng::from_env();
    let (running, turns) = (Arc::new(Mutex::new((0_u32, 0_u64))), Arc::new(AtomicU64::new(0)));
    let mut links = Vec::new();
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let link = FaultLink::to(server.addr());
        let lock: Arc<dyn Lock> = dial(&format!("redis://{}", link.addr())).unwrap();
        let handle = Keeper::new(lock, "it", options(true)).unwrap().start().unwrap();
        let (running, turns) = (running.clone(), turns.clone());
        tasks.push(tokio::spawn(handle.run_while_held(move |turn| {
            let (running, turns) = (running.clone(), turns.clone());
            async move {
                let _leave = enter(&running, turn.token);
                turns.fetch_add(1, Ordering::SeqCst);
                turn.stopping().await;
                assert!(!turn.is_held());
            }
        })));
        links.push(link);
    }
    let faults = std::env::var("MUSTER_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    for _ in 0..faults {
        let link = rng.pick(&links);
        match rng.within(0..3) {
            0 => link.cut(),
            1 => link.blackhole(),
            _ => link.reset(),
        }
        tokio::time::sleep(Duration::from_millis(rng.within(50..1800))).await;
        link.heal();
    }
    let before = turns.load(Ordering::SeqCst);
    eprintln!("{before} turns through {faults} faults");
    eventually("somebody holds it in the end", LIMIT, async || {
        (running.lock().unwrap().0 == 1).then_some(())
    })
    .await;
    assert!(tasks.iter().all(|task| !task.is_finished()), "no contender ended");
}

/// Counts one in, and out when the guard is dropped. Panics when another is in, or has had this token.
fn enter(running: &Arc<Mutex<(u32, u64)>>, token: u64) -> impl Drop + use<> {
    struct Leave(Arc<Mutex<(u32, u64)>>);
    impl Drop for Leave {
        fn drop(&mut self) {
            self.0.lock().unwrap().0 -= 1;
        }
    }
    let mut now = running.lock().unwrap();
    assert_eq!(now.0, 0, "two at once");
    assert!(token > now.1, "token {token} after {}", now.1);
    *now = (1, token);
    Leave(running.clone())
}
