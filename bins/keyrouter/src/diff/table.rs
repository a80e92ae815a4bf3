//! The report for people.

use std::fmt::Write as _;

use super::{NodeShares, Report, ServiceDiff, Status};

/// The report as a table for each changed service, and a line for every other.
pub(super) fn render(report: &Report) -> String {
    let mut text = String::new();
    for service in &report.services {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "service {:?}: {}", service.name, headline(service, report.keys));
        nodes(&service.nodes, &mut text);
    }
    if report.services.is_empty() {
        text.push_str("neither file has a service\n");
    }
    text
}

fn headline(service: &ServiceDiff, keys: u64) -> String {
    let side = |algorithm: Option<&str>, count: Option<usize>| {
        format!("{}, {}", algorithm.unwrap_or_default(), plural(count.unwrap_or_default()))
    };
    let before = side(service.algorithm_before, service.nodes_before);
    let after = side(service.algorithm_after, service.nodes_after);
    match service.status {
        Status::Unchanged => format!("unchanged ({after})"),
        Status::Added => format!("added ({after})"),
        Status::Removed => format!("removed ({before})"),
        Status::Changed => format!(
            "{} of {keys} keys move, {} have to ({before} -> {after})",
            percent(service.moved.unwrap_or_default()),
            percent(service.needed.unwrap_or_default())
        ),
    }
}

fn plural(count: usize) -> String {
    if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") }
}

fn nodes(nodes: &[NodeShares], text: &mut String) {
    if nodes.is_empty() {
        return;
    }
    // A name may hold what would break the lines of a table.
    let names: Vec<String> = nodes.iter().map(|node| node.address.escape_debug().to_string()).collect();
    let width = names.iter().map(|name| name.chars().count()).chain([4]).max().unwrap_or_default();
    let heads = ["before", "after", "lost", "gained"].map(|head| format!("{head:>9}")).concat();
    let _ = writeln!(text, "  {:width$}{heads}", "node");
    for (name, node) in names.iter().zip(nodes) {
        let shares = [node.before, node.after, node.lost, node.gained];
        let shares = shares.map(|share| format!("{:>9}", percent(share))).concat();
        let _ = writeln!(text, "  {name:width$}{shares}");
    }
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}
