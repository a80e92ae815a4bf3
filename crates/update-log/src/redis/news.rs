//! What others did, as they tell it: a line each.

use std::sync::Arc;

use common::node::NodeId;

use super::core::{bare, report, report_once};
use super::read;
use super::shared::Inner;
use crate::Report;

/// One thing that somebody did.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Settled {
        sequence: u64,
        node: NodeId,
        attempt: u32,
        status: u16,
        level: bool,
        stored: bool,
        digest: u64,
    },
    Failed {
        sequence: u64,
        node: NodeId,
        attempt: u32,
        status: u16,
    },
    Dead {
        sequence: u64,
        node: NodeId,
        attempt: u32,
    },
    Rejected {
        sequence: u64,
        node: NodeId,
        attempt: u32,
        status: u16,
    },
    /// What a node has to get has changed as a whole; all before this sequence, or to its end when 0.
    Other {
        node: NodeId,
        before: u64,
    },
    Text,
}

/// Takes news; says whether what everybody sees has changed.
pub(super) fn hear(inner: &Arc<Inner>, text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return true };
    let mut lines = text.lines();
    let own = lines.next() == Some(inner.instance.as_str());
    if let Some(next) = lines.next().and_then(|next| next.parse().ok()) {
        inner.advance(next);
    }
    for line in lines {
        let Some(line) = parse(line) else { continue };
        match line {
            Line::Text => {
                let inner = inner.clone();
                inner.handle.clone().spawn(async move { read::text(&inner).await });
            }
            Line::Other { node, before } => other(inner, &node, before),
            // What this process did it has told already.
            line if !own => tell(inner, line),
            _ => {}
        }
    }
    true
}

fn other(inner: &Arc<Inner>, node: &NodeId, before: u64) {
    let core = inner.core();
    let followed: Vec<u64> =
        core.trackers.keys().copied().filter(|seq| before == 0 || *seq < before).collect();
    drop(core);
    let (inner, node) = (inner.clone(), node.clone());
    inner.handle.clone().spawn(async move {
        read::reload(&inner, &node).await;
        for sequence in followed {
            read::follow_up(&inner, sequence).await;
        }
    });
}

fn tell(inner: &Arc<Inner>, line: Line) {
    let (sequence, mut told, status, stored) = match line {
        Line::Settled { sequence, node, attempt, status, level, stored, digest } => {
            (sequence, Report { level, digest, ..report(&node, attempt, true) }, status, stored)
        }
        Line::Failed { sequence, node, attempt, status } => {
            (sequence, report(&node, attempt, false), status, false)
        }
        Line::Dead { sequence, node, attempt } => (sequence, report(&node, attempt, true), 0, false),
        Line::Rejected { sequence, node, attempt, status } => {
            let mut core = inner.core();
            if let Some(mirror) = core.mirrors.get_mut(&node) {
                mirror.close(sequence);
            }
            drop(core);
            (sequence, Report { rejected: true, ..report(&node, attempt, true) }, status, true)
        }
        Line::Other { .. } | Line::Text => return,
    };
    let Some(tracker) = inner.core().tracker(sequence) else { return };
    if !stored {
        told.answer = bare(status);
        return report_once(&tracker, told);
    }
    let inner = inner.clone();
    inner.handle.clone().spawn(async move {
        told.answer = read::answer(&inner, sequence).await.or_else(|| bare(status));
        report_once(&tracker, told);
    });
}

fn parse(line: &str) -> Option<Line> {
    let mut words = line.split(' ');
    let kind = words.next()?;
    if kind == "v" {
        return Some(Line::Text);
    }
    if !matches!(kind, "s" | "f" | "d" | "r" | "o") {
        return None;
    }
    let sequence = words.next()?.parse().ok()?;
    let node: NodeId = words.next()?.parse().ok()?;
    if kind == "o" {
        return Some(Line::Other { node, before: sequence });
    }
    let attempt = words.next()?.parse().ok()?;
    if kind == "d" {
        return Some(Line::Dead { sequence, node, attempt });
    }
    let status = words.next()?.parse().ok()?;
    Some(match kind {
        "f" => Line::Failed { sequence, node, attempt, status },
        "r" => Line::Rejected { sequence, node, attempt, status },
        _ => {
            let (level, stored) = (words.next()? == "1", words.next()? == "1");
            let (high, low): (u64, u64) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            Line::Settled { sequence, node, attempt, status, level, stored, digest: high << 32 | low }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_unknown_ones_left_out() {
        let node: NodeId = "h:80".parse().unwrap();
        let settled = Line::Settled {
            sequence: 7,
            node: node.clone(),
            attempt: 2,
            status: 201,
            level: true,
            stored: false,
            digest: 3 << 32 | 4,
        };
        assert_eq!(parse("s 7 h:80 2 201 1 0 3 4"), Some(settled));
        assert_eq!(parse("o 0 h:80"), Some(Line::Other { node: node.clone(), before: 0 }));
        assert_eq!(parse("d 9 h:80 12"), Some(Line::Dead { sequence: 9, node, attempt: 12 }));
        assert_eq!(parse("v"), Some(Line::Text));
        for other in ["", "a", "n", "e", "z 1 2", "s 7 h:80 2", "s x h:80 2 201 1 0 3 4"] {
            assert_eq!(parse(other), None, "{other:?}");
        }
    }
}
