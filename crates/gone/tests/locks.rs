//! One suite for every driver: what a lock has to do, on real servers and real files.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use gone::lease::rules::{Contender, Reply, Request, Seen, Standing, View};
use gone::lease::{Timing, Unsafe};
use gone::lock::{Id, Lock, Session, dial};
use std::time::Instant;

use support::{LIMIT, PATIENCE, listener};
use testkit::{ConsulServer, EtcdServer, RedisServer, TempDir, eventually, patience};

/// For the tests of files alone.
const EXPIRY: u64 = 1500;

/// One contender with its session. `dial` anew for each, so that nothing is shared but the store.
struct Party {
    lock: Arc<dyn Lock>,
    session: Box<dyn Session>,
}

impl Party {
    async fn new(url: &str, id: &str, owner: &str, expiry_ms: u64) -> Self {
        let lock = dial(url).unwrap();
        let from = Contender {
            owner: owner.to_owned(),
            address: format!("tcp://{owner}:6381"),
            expiry_ms,
            compat: false,
        };
        let session = lock.open(&Id::new(id).unwrap(), &from, PATIENCE, listener().0).await.unwrap();
        Self { lock, session }
    }

    async fn ask(&mut self, request: Request) -> Reply {
        self.session.ask(&request).await.unwrap()
    }

    async fn try_acquire(&mut self, floor: u64) -> Result<(u64, u64), Reply> {
        match self.ask(Request::Acquire { observed: None, floor, fresh: true }).await {
            Reply::Acquired { token, end_us } => Ok((token, end_us)),
            other => Err(other),
        }
    }

    /// Asks as a waiter does, until it has the lease: a state that stood for the expiry on its own clock may be
    /// taken from.
    async fn wait_for_it(&mut self, expiry: Duration) -> (u64, u64) {
        let mut standing: Option<(Seen, Instant)> = None;
        eventually("the lease of one who is gone", LIMIT, async || {
            let observed = standing.as_ref().filter(|(_, since)| since.elapsed() >= expiry);
            let request =
                Request::Acquire { observed: observed.map(|(seen, _)| seen.clone()), floor: 0, fresh: true };
            let view = match self.ask(request).await {
                Reply::Acquired { token, end_us } => return Some((token, end_us)),
                Reply::Busy(view) => view,
                other => panic!("{other:?}"),
            };
            if standing.as_ref().is_none_or(|(seen, _)| *seen != view.seen) {
                standing = Some((view.seen, Instant::now()));
            }
            None
        })
        .await
    }

    async fn show(&mut self) -> View {
        match self.ask(Request::Read).await {
            Reply::Shown(view) => view,
            other => panic!("{other:?}"),
        }
    }
}

/// `expiry` in milliseconds, one that the lock can do.
async fn suite(url: &str, expiry: u64) {
    one_holds_and_the_token_grows(url, expiry).await;
    a_renewal_goes_on_and_one_of_another_does_not(url, expiry).await;
    another_expiry_is_refused_while_the_lease_is_held(url, expiry).await;
    of_many_at_once_one_gets_it(url, expiry).await;
    two_never_get_the_same_token(url, expiry).await;
    ids_do_not_meet(url, expiry).await;
    a_holder_that_goes_is_replaced(url, expiry).await;
    looking_shows_the_holder_and_changes_nothing(url, expiry).await;
    a_lease_outlives_the_session_it_was_taken_on(url).await;
}

async fn one_holds_and_the_token_grows(url: &str, expiry: u64) {
    let (mut a, mut b) =
        (Party::new(url, "one", "a", expiry).await, Party::new(url, "one", "b", expiry).await);
    let (first, _) = a.try_acquire(0).await.unwrap();
    let Err(Reply::Busy(view)) = b.try_acquire(0).await else { panic!("two hold it") };
    assert_eq!((view.standing, view.token, view.owner.as_str()), (Standing::Held, first, "a"));
    assert_eq!(view.address, "tcp://a:6381");
    assert_eq!(a.ask(Request::Release { token: first }).await, Reply::Released);
    let (second, _) = b.try_acquire(0).await.unwrap();
    assert!(second > first, "{second} after {first}");
    // A runner that has seen a greater one gets one above it, whatever the store knows.
    assert_eq!(b.ask(Request::Release { token: second }).await, Reply::Released);
    let floor = second + 5_000_000_000;
    let (third, _) = a.try_acquire(floor).await.unwrap();
    assert!(third > floor, "{third} after {floor}");
    assert_eq!(a.ask(Request::Release { token: third }).await, Reply::Released);
}

async fn a_renewal_goes_on_and_one_of_another_does_not(url: &str, expiry: u64) {
    let (mut a, mut b) =
        (Party::new(url, "renew", "a", expiry).await, Party::new(url, "renew", "b", expiry).await);
    let (token, end_us) = a.try_acquire(0).await.unwrap();
    let before = b.show().await.seen;
    let Reply::Renewed { end_us: later } = a.ask(Request::Renew { token, end_us }).await else { panic!() };
    if a.lock.look_every().is_none() {
        assert_ne!(b.show().await.seen, before, "a waiter counts from the last renewal");
    }
    assert!(later > end_us);
    assert!(matches!(b.ask(Request::Renew { token, end_us: later }).await, Reply::Lost(_)));
    assert!(matches!(b.ask(Request::Release { token }).await, Reply::Lost(_)));
    assert!(matches!(b.try_acquire(0).await, Err(Reply::Busy(_))), "neither took it away");
    assert_eq!(a.ask(Request::Release { token }).await, Reply::Released);
    assert!(
        matches!(a.ask(Request::Renew { token, end_us: later }).await, Reply::Lost(_)),
        "released is over"
    );
    let (next, _) = b.try_acquire(0).await.unwrap();
    assert!(
        matches!(a.ask(Request::Release { token }).await, Reply::Lost(_)),
        "an old release frees nothing"
    );
    assert!(matches!(a.try_acquire(0).await, Err(Reply::Busy(_))));
    assert_eq!(b.ask(Request::Release { token: next }).await, Reply::Released);
}

async fn another_expiry_is_refused_while_the_lease_is_held(url: &str, expiry: u64) {
    let mut a = Party::new(url, "expiry", "a", expiry).await;
    let mut b = Party::new(url, "expiry", "b", expiry + 1000).await;
    let (token, _) = a.try_acquire(0).await.unwrap();
    assert_eq!(b.try_acquire(0).await, Err(Reply::OtherExpiry { recorded_ms: expiry }));
    assert_eq!(a.ask(Request::Release { token }).await, Reply::Released);
    let (token, _) = b.try_acquire(0).await.unwrap();
    assert_eq!(a.try_acquire(0).await, Err(Reply::OtherExpiry { recorded_ms: expiry + 1000 }));
    assert_eq!(b.ask(Request::Release { token }).await, Reply::Released);
}

async fn of_many_at_once_one_gets_it(url: &str, expiry: u64) {
    let mut last = 0;
    let mut parties = Vec::new();
    for number in 0..6 {
        parties.push(Party::new(url, "race", &format!("p{number}"), expiry).await);
    }
    for _ in 0..10 {
        let mut asking = tokio::task::JoinSet::new();
        for mut party in parties.drain(..) {
            asking.spawn(async move { (party.try_acquire(0).await, party) });
        }
        let mut tokens = Vec::new();
        for (got, mut party) in asking.join_all().await {
            match got {
                Ok((token, _)) => {
                    tokens.push(token);
                    // At the end of the line, so that it is still held while the others ask.
                    parties.push(party);
                }
                Err(Reply::Busy(_)) => parties.insert(0, party),
                Err(other) => panic!("{other:?}: {:?}", party.show().await),
            }
        }
        let [token] = tokens[..] else { panic!("one of six gets it, not {}: {tokens:?}", tokens.len()) };
        assert!(token > last, "{token} after {last}");
        last = token;
        assert_eq!(parties.last_mut().unwrap().ask(Request::Release { token }).await, Reply::Released);
    }
}

async fn two_never_get_the_same_token(url: &str, expiry: u64) {
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..6 {
        let mut party = Party::new(url, "tokens", &format!("p{number}"), expiry).await;
        asking.spawn(async move {
            let mut tokens = Vec::new();
            while tokens.len() < 5 {
                // Given back at once, while others are between looking and taking.
                if let Ok((token, _)) = party.try_acquire(0).await {
                    tokens.push(token);
                    assert_eq!(party.ask(Request::Release { token }).await, Reply::Released);
                }
            }
            assert!(tokens.is_sorted(), "{tokens:?}");
            tokens
        });
    }
    let all = tokio::time::timeout(patience(LIMIT), asking.join_all()).await;
    let mut all = all.expect("six of them get it five times each").concat();
    all.sort_unstable();
    assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{all:?}");
}

async fn ids_do_not_meet(url: &str, expiry: u64) {
    let mut tokens = Vec::new();
    for id in ["x", "x/../y", "x y", "{x}", "ü", "x:released", "%78"] {
        let mut party = Party::new(url, id, "a", expiry).await;
        tokens.push(party.try_acquire(0).await.unwrap_or_else(|reply| panic!("{id}: {reply:?}")));
    }
    assert_eq!(tokens.len(), 7);
}

async fn a_holder_that_goes_is_replaced(url: &str, expiry: u64) {
    let (mut a, mut b) =
        (Party::new(url, "gone", "a", expiry).await, Party::new(url, "gone", "b", expiry).await);
    let (first, _) = a.try_acquire(0).await.unwrap();
    drop(a);
    let (second, _) = b.wait_for_it(Duration::from_millis(expiry)).await;
    assert!(second > first);
}

async fn looking_shows_the_holder_and_changes_nothing(url: &str, expiry: u64) {
    let (mut a, mut b) =
        (Party::new(url, "look", "a", expiry).await, Party::new(url, "look", "b", expiry).await);
    assert_eq!(b.show().await.standing, Standing::Unknown);
    let (token, _) = a.try_acquire(0).await.unwrap();
    let view = b.show().await;
    assert_eq!((view.standing, view.token, view.address.as_str()), (Standing::Held, token, "tcp://a:6381"));
    assert!(view.remaining > Duration::ZERO && view.remaining <= Duration::from_millis(expiry));
    assert_eq!(view.seen, b.show().await.seen);
    assert_eq!(a.ask(Request::Release { token }).await, Reply::Released);
    assert_eq!(b.show().await.standing, Standing::Free);
    assert!(b.try_acquire(0).await.is_ok(), "looking took nothing");
}

async fn a_lease_outlives_the_session_it_was_taken_on(url: &str) {
    let mut a = Party::new(url, "session", "a", 60_000).await;
    let (token, end_us) = a.try_acquire(0).await.unwrap();
    let from =
        Contender { owner: "a".into(), address: "tcp://a:6381".into(), expiry_ms: 60_000, compat: false };
    let id = Id::new("session").unwrap();
    a.session = a.lock.open(&id, &from, PATIENCE, listener().0).await.unwrap();
    let mut b = Party::new(url, "session", "b", 60_000).await;
    assert!(matches!(b.try_acquire(0).await, Err(Reply::Busy(_))));
    assert!(matches!(a.ask(Request::Renew { token, end_us }).await, Reply::Renewed { .. }));
    // One whose answer was lost is found by its owner's name and taken again, with another token.
    let Err(Reply::Busy(view)) = b.try_acquire(0).await else { panic!() };
    assert_eq!(view.owner, "a");
    let again = Request::Acquire { observed: Some(view.seen), floor: token, fresh: false };
    let Reply::Acquired { token: next, .. } = a.ask(again).await else { panic!("an own lease is not given") };
    assert!(next > token);
    let stale = Request::Acquire { observed: Some(Seen("run/1/1".into())), floor: 0, fresh: false };
    assert!(matches!(b.ask(stale).await, Reply::Busy(_)));
}

#[tokio::test]
async fn redis() {
    let server = RedisServer::start().await;
    let lock = dial(&server.url()).unwrap();
    assert_eq!(lock.address(), server.url());
    assert!(lock.descriptor(&Id::new("one").unwrap()).is_none());
    suite(&server.url(), 1500).await;
}

#[tokio::test]
async fn file() {
    let folder = TempDir::new();
    suite(&format!("file:{}", folder.join("locks").display()), 1500).await;
}

#[tokio::test]
async fn etcd() {
    let server = EtcdServer::start().await;
    let lock = dial(&server.url()).unwrap();
    assert_eq!(lock.address(), format!("{}/gone", server.url()));
    suite(&server.url(), 2000).await;
    // Another member's address that leads nowhere costs its share of the time, once.
    suite(&format!("etcd://127.0.0.1:1,{}/a/b", server.addr()), 2000).await;
}

#[tokio::test]
async fn consul() {
    let server = ConsulServer::start().await;
    let lock = dial(&server.url()).unwrap();
    assert_eq!(lock.address(), format!("{}/gone", server.url()));
    suite(&server.url(), 10_000).await;
}

#[test]
fn each_lock_says_what_expiry_it_cannot_do_and_how_long_its_failover_takes() {
    let ms = Duration::from_millis;
    for (url, good, bad) in
        [("consul://h", [10_000, 10_500], [9_999, 1000]), ("etcd://h", [2000, 30_000], [1000, 2500])]
    {
        let lock = dial(url).unwrap();
        for expiry in good.map(|expiry| Timing::of(ms(expiry))) {
            assert_eq!(lock.problems(&expiry), [], "{url} {expiry:?}");
            let table = lock.failover(&expiry).table(&expiry);
            assert_eq!(lock.failover(&expiry).after_death, expiry.expiry + ms(100));
            assert!(table.contains("fail-over, holder killed") && table.contains("nobody waited"), "{table}");
        }
        for expiry in bad.map(|expiry| Timing::of(ms(expiry))) {
            let problem = lock.problems(&expiry);
            assert!(matches!(problem[..], [Unsafe::Store { .. }]), "{url} {expiry:?}: {problem:?}");
        }
    }
}

#[tokio::test]
async fn a_file_is_held_as_long_as_any_copy_of_its_descriptor() {
    let folder = TempDir::new();
    let url = format!("file:{}", folder.display());
    let (mut a, mut b) =
        (Party::new(&url, "it", "a", EXPIRY).await, Party::new(&url, "it", "b", EXPIRY).await);
    a.try_acquire(0).await.unwrap();
    // The guard's copy: the runner goes, the guard is still busy with the child.
    let guard = a.lock.descriptor(&Id::new("it").unwrap()).unwrap();
    drop(a);
    assert!(matches!(b.try_acquire(0).await, Err(Reply::Busy(_))));
    drop(guard);
    let (token, _) = b.try_acquire(0).await.unwrap();
    // And in order: a release frees the guard's copy too.
    let _guard = b.lock.descriptor(&Id::new("it").unwrap()).unwrap();
    let mut c = Party::new(&url, "it", "c", EXPIRY).await;
    assert!(matches!(c.try_acquire(0).await, Err(Reply::Busy(_))));
    assert_eq!(b.ask(Request::Release { token }).await, Reply::Released);
    assert!(c.try_acquire(0).await.is_ok());
}

#[tokio::test]
async fn a_file_that_was_replaced_is_lost_and_two_in_one_process_do_not_share() {
    let folder = TempDir::new();
    let url = format!("file:{}", folder.display());
    let mut a = Party::new(&url, "it", "a", EXPIRY).await;
    let (token, end_us) = a.try_acquire(0).await.unwrap();
    let second = Contender { owner: "b".into(), address: String::new(), expiry_ms: EXPIRY, compat: false };
    let mut b = a.lock.open(&Id::new("it").unwrap(), &second, PATIENCE, listener().0).await.unwrap();
    let asked = b.ask(&Request::Acquire { observed: None, floor: 0, fresh: false }).await.unwrap();
    assert!(matches!(asked, Reply::Busy(_)), "another contender on the same lock value: {asked:?}");
    assert!(matches!(a.ask(Request::Renew { token, end_us }).await, Reply::Renewed { .. }));
    std::fs::remove_file(folder.join("it.lock")).unwrap();
    assert!(matches!(a.ask(Request::Renew { token, end_us }).await, Reply::Lost(_)));
    // A record that cannot be read is said so, and nobody gets the lease on top of it.
    std::fs::write(folder.join("it.lease"), "{\"format\":9}").unwrap();
    let mut c = Party::new(&url, "it", "c", EXPIRY).await;
    let error = c.session.ask(&Request::Acquire { observed: None, floor: 0, fresh: true }).await.unwrap_err();
    assert!(error.to_string().contains("it.lease"), "{error}");
}
