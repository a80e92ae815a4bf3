//! Whether enough nodes are there.

/// With `expect`, more than half of that many nodes, this one included. Without, as mercury's cluster counted: of
/// `configured` nodes (without this one) and this one, more than half; but a node alone, and one of two, always has
/// a quorum, also on both sides of a split.
pub fn has_quorum(configured: usize, joined: usize, expect: Option<usize>) -> bool {
    match expect {
        Some(expect) => 2 * (joined + 1) > expect,
        None => configured <= 1 || configured + 1 < 2 * (joined + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_original_counted() {
        assert!(has_quorum(0, 0, None));
        assert!(has_quorum(1, 0, None), "one of two always has it");
        // Nodes in all, and how many of them are needed.
        for (nodes, needed) in [(3, 2), (4, 3), (5, 3), (6, 4), (7, 4)] {
            for there in 1..=nodes {
                assert_eq!(has_quorum(nodes - 1, there - 1, None), there >= needed, "{there} of {nodes}");
            }
        }
    }

    #[test]
    fn expected_nodes_have_no_exception_for_two() {
        assert!(has_quorum(0, 0, Some(1)));
        assert!(!has_quorum(1, 0, Some(2)));
        assert!(has_quorum(1, 1, Some(2)));
        assert!(!has_quorum(1, 1, Some(4)), "more are expected than are configured");
    }
}
