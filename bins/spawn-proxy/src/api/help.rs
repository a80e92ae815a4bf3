//! The help of `/list`, out of the table of routes.

use std::fmt::Write;

use super::routes::{ROUTES, Route, Section, Verb};

/// Where the names of methods and paths end.
const METHOD: usize = 8;
const PATH: usize = 36;

/// The help about a part of the routes.
pub(super) fn text(section: Section) -> String {
    let mut text = String::from("\nSpawn Sync Service\n");
    for route in ROUTES.iter().filter(|route| section == Section::All || route.path.starts_with("/nodes")) {
        for verb in route.verbs.iter().filter(|verb| is_in(section, verb)) {
            entry(&mut text, route, verb);
        }
    }
    text.push_str(match section {
        Section::NodesBy("PUT") | Section::Nodes | Section::All => SET,
        Section::NodesBy(_) => "",
    });
    text.push_str(NOTES);
    text
}

fn is_in(section: Section, verb: &Verb) -> bool {
    match section {
        Section::All | Section::Nodes => true,
        Section::NodesBy(method) => verb.method == method,
    }
}

fn entry(text: &mut String, route: &Route, verb: &Verb) {
    // Writing to a String cannot fail.
    let _ = write!(text, "\n{:METHOD$}{:PATH$}{}\n", verb.method, route.path, verb.does);
    for (name, does) in verb.query {
        let parameter = format!("?{name}");
        let _ = writeln!(text, "{:METHOD$}  {parameter:width$}{does}", "", width = PATH - 2);
    }
}

const SET: &str = "
A node in a body: {\"host\":\"10.0.0.1\",\"port\":8080,\"priority\":1,\"active\":true,\"maintenance\":false}
Keys that are left out keep their value; in a new node they are zero and false. In the body of one
node, host and port may be left out too; in an array each item has them.
";

const NOTES: &str = "
?pretty=true indents any JSON. An IPv6 address stands in brackets: /nodes/[::1]/8080
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_in_the_help_and_every_part_has_only_its_own() {
        let all = text(Section::All);
        assert!(all.starts_with("\nSpawn Sync Service\n"));
        for route in ROUTES {
            for verb in route.verbs {
                let begins = format!("{:METHOD$}{} ", verb.method, route.path);
                let line = all.lines().find(|line| line.starts_with(&begins));
                assert!(line.is_some_and(|line| line.ends_with(verb.does)), "{} {}", verb.method, route.path);
            }
        }
        let delete = text(Section::NodesBy("DELETE"));
        assert!(
            delete.contains("DELETE  /nodes/:host/:port")
                && !delete.contains("\nGET ")
                && !delete.contains("/queues")
        );
        assert!(
            text(Section::Nodes).contains("\nPUT     /nodes ") && !text(Section::Nodes).contains("/updates")
        );
    }
}
