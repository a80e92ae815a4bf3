//! What the scripts answer, as the words of the rules.

use crate::lease::rules::{Kept, LegacyKey, Record, Reply, Scene};

/// The status, the clock, the run, the original's key, its time left, and the record's fields if there is one.
pub(super) fn read(fields: &[String]) -> Option<Reply> {
    let [status, now_us, run, value, left_ms, record @ ..] = fields else { return None };
    let scene = Scene { now_us: now_us.parse().ok()?, run };
    let record = match record {
        [] => None,
        [token, owner, address, expiry_ms, end_us, written_us, released, run] => Some(Record {
            token: token.parse().ok()?,
            owner: owner.clone(),
            address: address.clone(),
            expiry_ms: expiry_ms.parse().ok()?,
            end_us: end_us.parse().ok()?,
            written_us: written_us.parse().ok()?,
            released: released == "1",
            run: run.clone(),
        }),
        _ => return None,
    };
    // A key without a time to live is looked at again after the default look.
    let left_us = u64::try_from(left_ms.parse::<i64>().ok()?).unwrap_or(1000) * 1000;
    let end_us = scene.now_us + left_us;
    let legacy = (!value.is_empty()).then(|| LegacyKey { value: value.clone(), end_us });
    let kept = Kept { record, legacy };
    let held = kept.record.as_ref();
    Some(match status.as_str() {
        "acquired" => Reply::Acquired { token: held?.token, end_us: held?.end_us },
        "renewed" => Reply::Renewed { end_us: held?.end_us },
        "released" => Reply::Released,
        "other-expiry" => Reply::OtherExpiry { recorded_ms: held?.expiry_ms },
        "busy" => Reply::Busy(kept.view(&scene, false)),
        "busy-foreign" => Reply::Busy(kept.view(&scene, true)),
        "lost" => Reply::Lost(kept.view(&scene, false)),
        "lost-foreign" => Reply::Lost(kept.view(&scene, true)),
        "shown" => Reply::Shown(kept.view(&scene, false)),
        "shown-foreign" => Reply::Shown(kept.view(&scene, true)),
        _ => return None,
    })
}
