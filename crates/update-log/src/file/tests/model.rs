//! Random operations, faults, kills and crashes against the model.

use std::collections::BTreeMap;

use super::script::Script;
use super::*;

fn run(count: u64, steps: usize, options: &FileLogOptions) {
    let mut total: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in seeds(count) {
        let mut script = Script::new(seed, options.clone());
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..steps {
                script.step(true);
                if script.done {
                    return;
                }
            }
            script.check();
        }));
        if let Err(panic) = ran {
            println!("replay with SEED={seed}");
            std::panic::resume_unwind(panic);
        }
        for (what, count) in script.counts {
            *total.entry(what).or_default() += count;
        }
    }
    println!("{total:?}");
}

#[test]
fn random_operations_agree_with_the_model() {
    run(60, 300, &options());
}

#[test]
fn random_operations_agree_with_the_model_while_segments_go() {
    let options = FileLogOptions {
        retain: Duration::ZERO,
        retain_bytes: 0,
        segment_bytes: 400,
        cache_bytes: 0,
        ..options()
    };
    run(40, 300, &options);
}
