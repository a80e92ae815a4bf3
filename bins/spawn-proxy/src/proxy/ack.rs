//! Whose answers have to be there before the client gets one. Pure.

use common::node::NodeId;
use update_log::Report;

use crate::config::Ack;

/// What the client waits for beside an answer: so many of these nodes have to have given one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    nodes: Vec<NodeId>,
    count: usize,
}

impl Wanted {
    /// For an update that `nodes` are to get, those in maintenance left out. `None` where the first answer will do.
    pub(super) fn new(ack: Ack, nodes: Vec<NodeId>) -> Option<Self> {
        let count = match ack {
            Ack::First | Ack::Queued => return None,
            Ack::Quorum => nodes.len() / 2 + 1,
            Ack::All => nodes.len(),
        };
        Some(Self { nodes, count })
    }
}

/// What there is for the client.
#[derive(Debug)]
pub(super) enum Verdict<'a> {
    /// This answer.
    Speaks(&'a Report),
    /// Nothing yet.
    Wait,
    /// What was wanted cannot come any more: too many nodes have given the update up, or it was dropped there.
    Never,
}

/// What the reports so far come to.
pub(super) fn verdict<'a>(reports: &'a [Report], nodes: &[NodeId], wanted: Option<&Wanted>) -> Verdict<'a> {
    if let Some(refusal) = reports.iter().find(|report| report.rejected && report.answer.is_some()) {
        return Verdict::Speaks(refusal);
    }
    let answered =
        |node: &&NodeId| reports.iter().any(|r| r.settled && r.node == **node && r.answer.is_some());
    let settled = |node: &&NodeId| reports.iter().any(|report| report.settled && report.node == **node);
    if let Some(wanted) = wanted {
        let have = wanted.nodes.iter().filter(answered).count();
        let without = wanted.nodes.iter().filter(|node| settled(node) && !answered(node)).count();
        if wanted.count > wanted.nodes.len() - without {
            return Verdict::Never;
        }
        if have < wanted.count {
            return Verdict::Wait;
        }
    }
    let level = reports.iter().find(|report| report.settled && report.level && report.answer.is_some());
    // When nobody was level, the first will do: of all nodes, or of those that were waited for.
    let enough = wanted.is_some_and(|wanted| wanted.count > 0) || nodes.iter().all(|node| settled(&node));
    let any = || reports.iter().find(|report| report.settled && report.answer.is_some());
    match level.or_else(|| any().filter(|_| enough)) {
        Some(report) => Verdict::Speaks(report),
        None => Verdict::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use update_log::{Answer, AnswerBody};

    fn id(port: u16) -> NodeId {
        NodeId::new("h", port).unwrap()
    }

    fn report(port: u16, settled: bool, level: bool, status: Option<u16>) -> Report {
        let answer = |status| {
            let status = http::StatusCode::from_u16(status).unwrap();
            Arc::new(Answer {
                status,
                headers: http::HeaderMap::new(),
                body: AnswerBody::Whole(bytes::Bytes::new()),
            })
        };
        let (node, answer) = (id(port), status.map(answer));
        Report { node, attempt: 1, settled, level, rejected: false, digest: 0, answer }
    }

    fn speaker(reports: &[Report], ack: Ack, asked: &[u16]) -> Result<u16, &'static str> {
        let nodes: Vec<NodeId> = (1..=4).map(id).collect();
        let wanted = Wanted::new(ack, asked.iter().map(|port| id(*port)).collect());
        match verdict(reports, &nodes, wanted.as_ref()) {
            Verdict::Speaks(report) => Ok(report.node.port()),
            Verdict::Wait => Err("wait"),
            Verdict::Never => Err("never"),
        }
    }

    #[test]
    fn a_majority_or_all_of_those_asked_must_have_answered() {
        let asked = [1, 2, 3];
        let mut reports = vec![report(1, false, true, Some(503)), report(2, true, true, Some(200))];
        assert_eq!(speaker(&reports, Ack::First, &asked), Ok(2));
        assert_eq!(speaker(&reports, Ack::Quorum, &asked), Err("wait"));
        // One that rests does not count, and one that is behind does; the level one speaks.
        reports.push(report(4, true, true, Some(200)));
        assert_eq!(speaker(&reports, Ack::Quorum, &asked), Err("wait"));
        reports.insert(0, report(3, true, false, Some(404)));
        assert_eq!(speaker(&reports, Ack::Quorum, &asked), Ok(2));
        assert_eq!(speaker(&reports, Ack::All, &asked), Err("wait"));
        reports.push(report(1, true, true, Some(201)));
        assert_eq!(speaker(&reports, Ack::All, &asked), Ok(2));
    }

    #[test]
    fn what_cannot_come_is_not_waited_for_and_a_common_refusal_is_the_answer() {
        let given_up = [report(1, true, false, None), report(2, true, true, Some(200))];
        assert_eq!(speaker(&given_up, Ack::All, &[1, 2, 3]), Err("never"));
        assert_eq!(speaker(&given_up, Ack::Quorum, &[1, 2, 3]), Err("wait"));
        let behind = [report(1, true, false, Some(200)), report(2, true, false, Some(200))];
        assert_eq!(speaker(&behind, Ack::First, &[1, 2, 3]), Err("wait"));
        assert_eq!(speaker(&behind, Ack::Quorum, &[1, 2, 3]), Ok(1));
        let refused = [Report { rejected: true, ..report(3, true, false, Some(500)) }];
        assert_eq!(speaker(&refused, Ack::All, &[1, 2, 3]), Ok(3));
        // Nobody to ask: the answer of one that rests would do, if it came.
        assert_eq!(speaker(&[], Ack::All, &[]), Err("wait"));
    }
}
