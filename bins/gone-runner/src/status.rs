//! `status`: one look at the lease, without contending.

use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use gone::keeper;
use gone::lease::rules::{Standing, View};
use gone::lock::{Id, Lock};
use serde_json::{Value, json};

/// Looks once and prints what it saw: a line for people, or JSON.
///
/// # Errors
/// When the lock does not answer within `patience`.
pub fn run(
    lock: &dyn Lock,
    id: &Id,
    compat: bool,
    patience: Duration,
    as_json: bool,
    to: &mut impl Write,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let view =
        runtime.block_on(keeper::look(lock, id, compat, patience)).context("the lock cannot be asked")?;
    // A driver's blocking work that hangs must not keep the answer from being printed.
    runtime.shutdown_background();
    let text = if as_json { format!("{}\n", as_value(id, &view)) } else { as_text(id, &view) };
    to.write_all(text.as_bytes()).context("writing to standard output")
}

/// Whether somebody runs it, or may run it: a lease of the original's counts.
fn is_held(view: &View) -> bool {
    matches!(view.standing, Standing::Held | Standing::Foreign)
}

fn as_value(id: &Id, view: &View) -> Value {
    let held = is_held(view);
    let holder = (held && !view.address.is_empty()).then_some(&view.address);
    let expires = held.then(|| u64::try_from(view.remaining.as_millis()).unwrap_or(u64::MAX));
    json!({
        "id": id.as_str(),
        "state": if held { "held" } else { "free" },
        "holder": holder,
        "token": view.token,
        "expires_in_ms": expires,
    })
}

fn as_text(id: &Id, view: &View) -> String {
    let seconds = view.remaining.as_secs_f64();
    match view.standing {
        Standing::Held => {
            format!("{id}: held by {}, token {}, for {seconds:.1}s\n", view.address, view.token)
        }
        Standing::Foreign => {
            format!("{id}: held by the original's node {}, for {seconds:.1}s\n", view.address)
        }
        Standing::Quarantine => format!(
            "{id}: free, but not to be taken for {seconds:.1}s: the lock does not know who held it before\n"
        ),
        Standing::Free => format!("{id}: free, last token {}\n", view.token),
        Standing::Unknown => format!("{id}: free, never held\n"),
    }
}

#[cfg(test)]
mod tests {
    use gone::lease::rules::Seen;

    use super::*;

    fn view(standing: Standing) -> View {
        View {
            standing,
            token: 7,
            owner: "o".into(),
            address: "tcp://h:1".into(),
            expiry: Duration::from_secs(30),
            remaining: Duration::from_millis(1500),
            seen: Seen(String::new()),
        }
    }

    #[test]
    fn the_json_is_the_contracts() {
        let id = Id::new("job").unwrap();
        assert_eq!(
            as_value(&id, &view(Standing::Held)).to_string(),
            r#"{"id":"job","state":"held","holder":"tcp://h:1","token":7,"expires_in_ms":1500}"#
        );
        assert_eq!(
            as_value(&id, &view(Standing::Free)).to_string(),
            r#"{"id":"job","state":"free","holder":null,"token":7,"expires_in_ms":null}"#
        );
    }

    #[test]
    fn every_standing_has_a_line() {
        let id = Id::new("job").unwrap();
        for (standing, part) in [
            (Standing::Held, "held by tcp://h:1"),
            (Standing::Foreign, "original"),
            (Standing::Quarantine, "not to be taken"),
            (Standing::Free, "last token 7"),
            (Standing::Unknown, "never held"),
        ] {
            assert!(as_text(&id, &view(standing)).contains(part), "{standing:?}");
        }
    }
}
