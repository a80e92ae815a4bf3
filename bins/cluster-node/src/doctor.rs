//! `doctor PEER`: what is wrong between this node and a peer.

use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use cluster::{Finding, Identity, Node, Verdict, probe};
use daemon::Failure;

use crate::config::NodeConfig;

/// Dials the peer once with each secret, and says what came of it. A node of this name that runs is not disturbed.
///
/// # Errors
/// When the peer is not configured, or no attempt succeeded.
pub fn run(config: &NodeConfig, peer: &str, to: &mut impl Write) -> anyhow::Result<()> {
    let node = config.nodes.iter().find(|node| *node.name == *peer).ok_or_else(|| {
        Failure::usage(format!("no peer {peer} is configured: give --peer {peer}=tcp://HOST:9654"))
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let within = config.tunables.cluster.connect_timeout;
    let findings = runtime.block_on(probe(&config.name, &config.identity(), node, within));
    runtime.shutdown_timeout(Duration::from_secs(1));
    let findings = findings?;
    let said = "writing to standard output";
    writeln!(to, "{} -> {} at {}", config.name, node.name, node.addr).context(said)?;
    for finding in &findings {
        writeln!(to, "{}", line(config, node, finding)).context(said)?;
    }
    to.flush().context(said)?;
    if findings.iter().any(|finding| finding.verdict == Verdict::Ok) {
        return Ok(());
    }
    Err(Failure::running(format!("{peer}: {}", advice(config, node, &findings))).into())
}

fn line(config: &NodeConfig, node: &Node, finding: &Finding) -> String {
    let Finding { secret, own_key, peer_key, verdict } = finding;
    let with = if config.key.is_some() && (node.key.is_some() || config.keyring.is_none()) {
        "own key".to_owned()
    } else {
        format!("secret {secret}")
    };
    format!("{with}: our key {own_key}, expected of it {peer_key}: {verdict}")
}

/// Which side has to do what.
fn advice(config: &NodeConfig, node: &Node, findings: &[Finding]) -> String {
    let (own, peer) = (&config.name, &node.name);
    let any = |wanted: &Verdict| findings.iter().any(|finding| finding.verdict == *wanted);
    if any(&Verdict::NotConfiguredThere) {
        return format!(
            "{peer} has our secret but does not know {own}: configure the peer {own} there, with its key if it has one of its own"
        );
    }
    if any(&Verdict::OtherKeyThere) {
        return match node.key {
            Some(_) => format!(
                "{peer} has another key than the one given here: compare with `cluster-node keygen --public-of` there, and see that it is {peer} that listens on {}",
                node.addr
            ),
            None => format!(
                "{peer} has none of our secrets (or {} is another node, or has a key of its own): compare the secret files of {own} and {peer}",
                node.addr
            ),
        };
    }
    match findings.first().map(|finding| &finding.verdict) {
        Some(Verdict::NoNode) => format!("what listens on {} is no cluster-node", node.addr),
        Some(Verdict::Silent) => {
            format!(
                "{} takes connections and says nothing: the node hangs, or a firewall swallows what is sent",
                node.addr
            )
        }
        Some(Verdict::Unreachable(why)) => format!("cannot be reached on {}: {why}", node.addr),
        _ => "there is nothing to dial it with".to_owned(),
    }
}

impl NodeConfig {
    /// What proves this node's name.
    pub fn identity(&self) -> Identity {
        match (self.keyring.clone(), self.key.clone()) {
            (Some(ring), Some(key)) => Identity::shared(ring).with_key(key),
            (Some(ring), None) => Identity::shared(ring),
            (None, Some(key)) => Identity::own_key(key),
            (None, None) => Identity::default(),
        }
    }
}
