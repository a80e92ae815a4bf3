//! The reference page says what the program says.

#[test]
fn the_page_has_every_setting() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/cluster-node.md");
    testkit::assert_documents(page, env!("CARGO_BIN_EXE_cluster-node"));
}

/// The clients on the page are the ones that are tested and built.
#[test]
fn the_page_has_the_clients() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    let read = |path: &str| std::fs::read_to_string(format!("{folder}{path}")).unwrap();
    let page = read("../../docs/reference/cluster-node-app.md");
    for client in ["examples/app.py", "examples/app.rs"] {
        assert!(page.contains(&read(client)), "{client} differs from the page");
    }
}
