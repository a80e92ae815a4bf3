//! Who may take the lease: pure, from what was read.

use std::time::Duration;

use crate::lease::rules::{Contender, Reply, Request, Seen, Standing, View};

use super::stored::Stored;

/// What the store has of one id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The record.
    pub(crate) record: Option<Stored>,
    /// Its version, to be named when it is written; zero when there is none.
    pub(crate) version: u64,
    /// The session or lease that holds it, if it lives.
    pub(crate) anchor: Option<String>,
    /// Where the store stands, to follow it from.
    pub(crate) index: u64,
    /// The server's clock in milliseconds, a floor for tokens; zero when it told none.
    pub(crate) clock_ms: u64,
}

/// What becomes of a request for the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The store lost what it knew: this is written, nobody's. Then the lease is taken at once, or it stands.
    Doubt {
        /// What is written.
        record: Stored,
        /// Without waiting.
        take: bool,
    },
    /// Not now.
    No(Reply),
    /// It is free; this is written with a new anchor.
    Take(Stored),
}

/// Decides a request for the lease; `mark` is random.
pub(crate) fn decide(kept: &Kept, from: &Contender, request: &Request, mark: u32) -> Verdict {
    let Request::Acquire { observed, floor, fresh } = request else {
        return Verdict::No(Reply::Shown(kept.view()));
    };
    let Some(record) = &kept.record else {
        return Verdict::Doubt { record: Stored::doubt(*floor, from.expiry_ms, mark), take: *fresh };
    };
    // The asker has seen a later lease than the store knows of: it went back, to a copy of before.
    if record.token < *floor && !fresh {
        return Verdict::Doubt { record: Stored::doubt(*floor, record.expiry_ms, mark), take: false };
    }
    if record.released || observed.as_ref() == Some(&seen(record)) {
        // As in every store: above all that is known, and not below the server's clock.
        let token = (record.token.max(*floor) + 1).max(kept.clock_ms);
        return Verdict::Take(Stored::held(token, &from.owner, &from.address, from.expiry_ms, mark));
    }
    if kept.is_held() && record.expiry_ms != from.expiry_ms {
        return Verdict::No(Reply::OtherExpiry { recorded_ms: record.expiry_ms });
    }
    Verdict::No(Reply::Busy(kept.view()))
}

/// The name of a state. The version is not in it: an anchor that ends changes that, and nothing for the taker.
fn seen(record: &Stored) -> Seen {
    Seen(format!("{}/{}/{}", record.token, record.written, record.released))
}

impl Kept {
    /// Held by somebody whose anchor lives.
    fn is_held(&self) -> bool {
        let record = self.record.as_ref();
        self.anchor.is_some() && record.is_some_and(|record| !record.owner.is_empty() && !record.released)
    }

    /// What a reply shows of it.
    pub(crate) fn view(&self) -> View {
        let Some(record) = &self.record else {
            return View {
                standing: Standing::Unknown,
                token: 0,
                owner: String::new(),
                address: String::new(),
                expiry: Duration::ZERO,
                remaining: Duration::ZERO,
                seen: Seen(String::new()),
            };
        };
        let expiry = Duration::from_millis(record.expiry_ms);
        let standing = match record {
            record if record.released => Standing::Free,
            // The anchor of a holder that died, or was killed, has ended: its lease may still run.
            _ if !self.is_held() => Standing::Quarantine,
            _ => Standing::Held,
        };
        View {
            standing,
            token: record.token,
            owner: record.owner.clone(),
            address: record.address.clone(),
            expiry,
            remaining: if record.released { Duration::ZERO } else { expiry },
            seen: seen(record),
        }
    }

    /// The same request by one who has seen this very state for long enough.
    pub(crate) fn as_if_observed(&self, request: &Request) -> Request {
        match (request, &self.record) {
            (Request::Acquire { floor, fresh, .. }, Some(record)) => {
                Request::Acquire { observed: Some(seen(record)), floor: *floor, fresh: *fresh }
            }
            _ => request.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contender(owner: &str, expiry_ms: u64) -> Contender {
        Contender { owner: owner.into(), address: String::new(), expiry_ms, compat: false }
    }

    fn ask(observed: Option<Seen>, floor: u64, fresh: bool) -> Request {
        Request::Acquire { observed, floor, fresh }
    }

    fn kept(record: Stored, anchor: bool) -> Kept {
        let anchor = anchor.then(|| "session".to_owned());
        Kept { record: Some(record), version: 7, anchor, index: 9, clock_ms: 1000 }
    }

    #[test]
    fn a_lease_that_was_not_given_back_has_to_stand_unchanged_whether_its_anchor_lives_or_not() {
        let record = Stored::held(5, "a", "", 10_000, 1);
        for anchored in [true, false] {
            let kept = kept(record.clone(), anchored);
            let No(Reply::Busy(view)) = decide(&kept, &contender("b", 10_000), &ask(None, 0, false), 2)
            else {
                panic!("taken from a holder that may live")
            };
            let standing = if anchored { Standing::Held } else { Standing::Quarantine };
            assert_eq!((view.standing, view.remaining), (standing, Duration::from_secs(10)));
            let mut renewed = kept.clone();
            renewed.record.as_mut().unwrap().written += 1;
            let request = ask(Some(view.seen), 0, false);
            assert!(matches!(decide(&renewed, &contender("b", 10_000), &request, 2), No(Reply::Busy(_))));
            let Verdict::Take(taken) = decide(&kept, &contender("b", 10_000), &request, 2) else { panic!() };
            assert_eq!((taken.token, taken.owner.as_str()), (1000, "b"), "not below the server's clock");
        }
    }

    #[test]
    fn another_expiry_is_refused_only_while_the_holder_lives() {
        let record = Stored::held(5, "a", "", 10_000, 1);
        let other = contender("b", 20_000);
        let refused = No(Reply::OtherExpiry { recorded_ms: 10_000 });
        assert_eq!(decide(&kept(record.clone(), true), &other, &ask(None, 0, false), 2), refused);
        assert!(matches!(
            decide(&kept(record.clone(), false), &other, &ask(None, 0, false), 2),
            No(Reply::Busy(_))
        ));
        let free = kept(record.again(true), false);
        assert!(matches!(decide(&free, &other, &ask(None, 0, false), 2), Verdict::Take(_)));
    }

    #[test]
    fn a_store_that_lost_what_was_seen_is_in_doubt() {
        let from = contender("b", 10_000);
        let Verdict::Doubt { record, take: false } =
            decide(&Kept::default(), &from, &ask(None, 40, false), 2)
        else {
            panic!("an empty store is trusted")
        };
        assert_eq!((record.token, record.expiry_ms, record.owner.as_str()), (40, 10_000, ""));
        // A released record from before the asker's last lease: not even "released" counts in it.
        let old = kept(Stored::held(5, "a", "", 10_000, 1).again(true), false);
        assert!(matches!(decide(&old, &from, &ask(None, 6, false), 2), Verdict::Doubt { take: false, .. }));
        assert!(matches!(decide(&old, &from, &ask(None, 5, false), 2), Verdict::Take(_)));
        // Asked to take the risk.
        let fresh = decide(&Kept::default(), &from, &ask(None, 0, true), 2);
        assert!(matches!(fresh, Verdict::Doubt { take: true, .. }));
    }

    #[test]
    fn tokens_grow_above_the_record_the_asker_and_the_clock() {
        let free = |token| Stored::held(token, "a", "", 10_000, 1).again(true);
        for (token, floor, above) in [(5, 0, 999), (2000, 0, 2000), (5, 5, 5), (3000, 3000, 3000)] {
            let verdict = decide(&kept(free(token), false), &contender("b", 1), &ask(None, floor, false), 2);
            let Verdict::Take(taken) = verdict else { panic!() };
            assert!(taken.token > above, "{} after {token}", taken.token);
        }
    }

    use Verdict::No;
}
