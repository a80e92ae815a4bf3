//! The command that candidates run in these tests: this very program, told by its environment what to be.

/// The words that start it.
pub(crate) fn words() -> Vec<String> {
    let exe = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    [exe.as_str(), "--exact", "role::child", "--nocapture"].map(str::to_owned).to_vec()
}

/// In a plain run there is nothing to do.
#[test]
fn child() {
    if std::env::var_os(testkit::beats::FOLDER).is_some() {
        testkit::beats::beat(&std::env::var("RECEPTION_TOKEN").unwrap_or_default());
    }
}
