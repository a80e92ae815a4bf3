//! The reference page says what the program says.

#[test]
fn the_page_has_every_setting() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/reception-agent.md");
    testkit::assert_documents(page, env!("CARGO_BIN_EXE_reception-agent"));
}
