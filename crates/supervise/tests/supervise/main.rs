//! Children under guards, with real processes. This program plays every part: the tests, the runner that
//! dies, the children that beat, and, by `supervise::enter`, the guards.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ending;
mod faults;
mod runner;
mod schedules;
mod starting;
mod support;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let role = std::env::args().nth(1).unwrap_or_default();
    if role == "role:unentered" {
        // As a program that forgot.
        return runner::print_error_of_start();
    }
    supervise::enter();
    match role.as_str() {
        "role:beat" => support::beat(&std::env::args().nth(2).unwrap()),
        "role:runner" => runner::play(),
        "role:cycles" => runner::cycles(),
        _ => {
            let tests = [starting::tests(), ending::tests(), faults::tests(), schedules::tests()].concat();
            let trials = tests.into_iter().map(|(name, test)| {
                Trial::test(name, move || {
                    test();
                    Ok(())
                })
            });
            libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit();
        }
    }
}
