//! The rules of the store: what becomes of its record by each request.
//!
//! [`decide`] is the definition. The Redis driver's scripts do the same in Lua, and a test compares
//! the two; the file driver and the simulation's store call it.

use std::time::Duration;

/// What the store keeps of one id, without a time to live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The token of the last lease; every new lease has a greater one.
    pub token: u64,
    /// Who holds the lease, a name used by one process only. Empty: nobody, the record is a quarantine.
    pub owner: String,
    /// Where the owner takes messages.
    pub address: String,
    /// The expiry that the lease was taken with, in milliseconds.
    pub expiry_ms: u64,
    /// When the lease ends, by the store's clock, in microseconds since 1970.
    pub end_us: u64,
    /// When the record was last written, by the store's clock. With the token it names the state.
    pub written_us: u64,
    /// The owner gave the lease back.
    pub released: bool,
    /// The run of the store (the server process) that wrote the record.
    pub run: String,
}

/// The key of the original program, which its nodes contend for: a value that ends by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacyKey {
    /// The address of the node that set it.
    pub value: String,
    /// When it ends, by the store's clock.
    pub end_us: u64,
}

/// All that the store has of one id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Ours.
    pub record: Option<Record>,
    /// The original's; only looked at by a contender with `compat`.
    pub legacy: Option<LegacyKey>,
}

/// The store at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// Its clock, in microseconds since 1970.
    pub now_us: u64,
    /// Which run of it this is: another after each restart, and another on each replica.
    pub run: &'a str,
}

/// Who asks. The same for all requests of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contender {
    /// Unique to this process and id.
    pub owner: String,
    /// Where it takes messages.
    pub address: String,
    /// Its expiry in milliseconds.
    pub expiry_ms: u64,
    /// Nodes of the original contend too.
    pub compat: bool,
}

/// A state of a record as it was seen: equal only while nothing was written since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen(pub String);

/// What is asked of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The lease, if it is free.
    Acquire {
        /// This state was seen for a whole expiry on the asker's own clock: it may be taken from.
        observed: Option<Seen>,
        /// The greatest token that the asker has seen.
        floor: u64,
        /// Take the lease at once where there is no record.
        fresh: bool,
    },
    /// The lease for another expiry.
    Renew {
        /// Of the lease that is held.
        token: u64,
        /// When it ends, as the store said.
        end_us: u64,
    },
    /// The end of the lease.
    Release {
        /// Of the lease that was held.
        token: u64,
    },
    /// Nothing but a look.
    Read,
}

/// Whose the lease is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is no record: a new id, or a store that lost it.
    Unknown,
    /// Anybody may take it.
    Free,
    /// Someone holds it.
    Held,
    /// Nobody may take it until its end, since a lease may be out that the store does not know of.
    Quarantine,
    /// A node of the original holds its key.
    Foreign,
}

/// The record as one reply shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Whose the lease is.
    pub standing: Standing,
    /// The last token.
    pub token: u64,
    /// The owner; empty when there is none.
    pub owner: String,
    /// Where the holder takes messages; empty when there is none.
    pub address: String,
    /// The recorded expiry; zero when there is no record.
    pub expiry: Duration,
    /// Until the end of the lease by the store's clock; zero when it is over. The whole expiry where the store
    /// does not tell.
    pub remaining: Duration,
    /// The state, to be named in a later request.
    pub seen: Seen,
}

/// The answer of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The asker holds the lease.
    Acquired {
        /// Greater than every token before.
        token: u64,
        /// When the lease ends, by the store's clock.
        end_us: u64,
    },
    /// It is not to be had now.
    Busy(View),
    /// The lease is held, or quarantined, with another expiry.
    OtherExpiry {
        /// That expiry, in milliseconds.
        recorded_ms: u64,
    },
    /// The lease goes on.
    Renewed {
        /// When it ends now.
        end_us: u64,
    },
    /// The lease is not the asker's any more, and it must not go on.
    Lost(View),
    /// The lease is free.
    Released,
    /// The answer to a look.
    Shown(View),
}

impl Record {
    /// The name of this state.
    pub fn seen(&self) -> Seen {
        Seen(format!("{}/{}/{}", self.run, self.token, self.written_us))
    }

    /// Takes over from a store's unknown past: nobody's until one expiry from now.
    fn quarantine(before: Option<&Self>, floor: u64, expiry_ms: u64, scene: &Scene<'_>) -> Self {
        let expiry_ms = before.map_or(expiry_ms, |before| before.expiry_ms);
        Self {
            token: before.map_or(0, |before| before.token).max(floor),
            owner: String::new(),
            address: String::new(),
            expiry_ms,
            end_us: scene.now_us + expiry_ms * 1000,
            written_us: scene.now_us,
            released: false,
            run: scene.run.to_owned(),
        }
    }
}

impl Kept {
    /// What a reply shows of it, with `foreign` for the original's key.
    pub(crate) fn view(&self, scene: &Scene<'_>, foreign: bool) -> View {
        let record = self.record.as_ref();
        let over = record.is_some_and(|record| record.released || record.end_us <= scene.now_us);
        let standing = match record {
            _ if foreign => Standing::Foreign,
            None => Standing::Unknown,
            // Written by another run: whether it is over cannot be known from it.
            Some(record) if record.run != scene.run => Standing::Quarantine,
            Some(_) if over => Standing::Free,
            Some(record) if record.owner.is_empty() => Standing::Quarantine,
            Some(_) => Standing::Held,
        };
        let key = self.legacy.as_ref().filter(|_| foreign);
        let end_us = key.map(|key| key.end_us).or(record.filter(|_| !over).map(|record| record.end_us));
        let address = key.map(|key| &key.value).or(record.map(|record| &record.address));
        View {
            standing,
            token: record.map_or(0, |record| record.token),
            owner: record.map(|record| record.owner.clone()).unwrap_or_default(),
            address: address.cloned().unwrap_or_default(),
            expiry: Duration::from_millis(record.map_or(0, |record| record.expiry_ms)),
            remaining: Duration::from_micros(end_us.unwrap_or(0).saturating_sub(scene.now_us)),
            seen: record.map_or_else(|| Seen(String::new()), Record::seen),
        }
    }

    /// Whether the original's key stands and is not the mark of the lease in the record.
    fn foreign(&self, from: &Contender) -> bool {
        let ours = |key: &LegacyKey| {
            self.record.as_ref().is_some_and(|record| !record.released && record.address == key.value)
        };
        from.compat && self.legacy.as_ref().is_some_and(|key| !ours(key))
    }
}

/// Decides a request, and changes what the store keeps. True with the reply: a release is to be announced.
pub fn decide(kept: &mut Kept, scene: &Scene<'_>, from: &Contender, request: &Request) -> (Reply, bool) {
    if kept.legacy.as_ref().is_some_and(|key| key.end_us <= scene.now_us) {
        kept.legacy = None;
    }
    match request {
        Request::Acquire { observed, floor, fresh } => {
            (acquire(kept, scene, from, observed.as_ref(), *floor, *fresh), false)
        }
        Request::Renew { token, end_us } => (renew(kept, scene, from, *token, *end_us), false),
        Request::Release { token } => release(kept, scene, from, *token),
        Request::Read => (Reply::Shown(kept.view(scene, kept.foreign(from))), false),
    }
}

fn acquire(
    kept: &mut Kept,
    scene: &Scene<'_>,
    from: &Contender,
    observed: Option<&Seen>,
    floor: u64,
    fresh: bool,
) -> Reply {
    let record = match &kept.record {
        None if fresh => None,
        Some(record) if record.run == scene.run => Some(record.clone()),
        // No record, or one of another run: a lease may be out that this store does not know of.
        before => Some(Record::quarantine(before.as_ref(), floor, from.expiry_ms, scene)),
    };
    if let Some(record) = &record {
        kept.record = Some(record.clone());
        let over = record.released || scene.now_us >= record.end_us || observed == Some(&record.seen());
        if !over && record.expiry_ms != from.expiry_ms {
            return Reply::OtherExpiry { recorded_ms: record.expiry_ms };
        }
        if !over {
            return Reply::Busy(kept.view(scene, false));
        }
    }
    if from.compat && kept.legacy.is_some() {
        return Reply::Busy(kept.view(scene, true));
    }
    // The clock is the floor below which no token is given, whatever the store has forgotten.
    let above = record.map_or(0, |record| record.token).max(floor) + 1;
    let token = above.max(scene.now_us / 1000);
    Reply::Acquired { token, end_us: hold(kept, scene, from, token) }
}

fn renew(kept: &mut Kept, scene: &Scene<'_>, from: &Contender, token: u64, end_us: u64) -> Reply {
    let in_time = scene.now_us < end_us;
    let ours = match &kept.record {
        Some(record) if record.run == scene.run && !record.owner.is_empty() => {
            record.token == token && record.owner == from.owner && !record.released
        }
        // The store lost us, or knows only an older lease: while ours runs, nobody can have another.
        Some(record) => record.token <= token && in_time,
        None => in_time,
    };
    let taken = from.compat && kept.legacy.as_ref().is_some_and(|key| key.value != from.address);
    if !ours || taken {
        return Reply::Lost(kept.view(scene, taken));
    }
    Reply::Renewed { end_us: hold(kept, scene, from, token) }
}

fn release(kept: &mut Kept, scene: &Scene<'_>, from: &Contender, token: u64) -> (Reply, bool) {
    let now_us = scene.now_us;
    let Some(record) = kept.record.as_mut().filter(|record| {
        let ours = record.token == token && record.owner == from.owner && !record.released;
        ours && record.run == scene.run
    }) else {
        return (Reply::Lost(kept.view(scene, false)), false);
    };
    (record.released, record.end_us, record.written_us) = (true, now_us, now_us);
    if from.compat {
        kept.legacy.take_if(|key| key.value == from.address);
    }
    (Reply::Released, true)
}

/// Writes that the asker holds the lease from now for one expiry, and gives its end.
fn hold(kept: &mut Kept, scene: &Scene<'_>, from: &Contender, token: u64) -> u64 {
    let end_us = scene.now_us + from.expiry_ms * 1000;
    kept.record = Some(Record {
        token,
        owner: from.owner.clone(),
        address: from.address.clone(),
        expiry_ms: from.expiry_ms,
        end_us,
        written_us: scene.now_us,
        released: false,
        run: scene.run.to_owned(),
    });
    if from.compat {
        kept.legacy = Some(LegacyKey { value: from.address.clone(), end_us });
    }
    end_us
}
