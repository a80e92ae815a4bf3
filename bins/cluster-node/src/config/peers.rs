//! Peers, as flags, files and the API give them.

use cluster::{Node, PublicKey};
use daemon::settings::{Address, Problems, Row, Values};

/// Longest name of a node, in characters.
const LONGEST_NAME: usize = 128;

/// What is wrong with a node's name.
///
/// # Errors
/// A sentence.
pub fn peer_name(name: &str) -> Result<(), String> {
    let good = |c: char| !c.is_whitespace() && !c.is_control() && c != '/' && c != '*';
    if name.is_empty() || name.chars().count() > LONGEST_NAME || !name.chars().all(good) {
        return Err(format!(
            "'{name}' is no name for a node: 1 to {LONGEST_NAME} characters, none of them white space, '/' or '*'"
        ));
    }
    Ok(())
}

/// A peer of these texts.
///
/// # Errors
/// A sentence that says which of them cannot be.
pub fn node(name: &str, addr: &str, key: Option<&str>) -> Result<Node, String> {
    peer_name(name)?;
    check_addr(addr)?;
    let node = Node::new(name, addr);
    match key {
        None => Ok(node),
        Some(text) => {
            let key: PublicKey = text.parse().map_err(|_| {
                format!("'{text}' is no public key: `cluster-node keygen --public-of FILE` prints it, 40 characters")
            })?;
            Ok(node.with_key(key))
        }
    }
}

fn check_addr(addr: &str) -> Result<(), String> {
    let wrong = |why: String| Err(format!("'{addr}' is no address of a node ({why}); write tcp://HOST:PORT"));
    if addr.strip_prefix("ipc://").is_some_and(|path| !path.is_empty()) {
        return Ok(());
    }
    let Some(rest) = addr.strip_prefix("tcp://") else {
        return wrong("it has to begin with tcp://".to_owned());
    };
    match rest.parse::<Address>() {
        Err(error) => wrong(error.to_string()),
        Ok(address) if address.host().is_none() => wrong("it has no host".to_owned()),
        Ok(address) if address.port() == 0 => wrong("it has no port".to_owned()),
        Ok(_) => Ok(()),
    }
}

/// All peers of the configuration.
pub(super) fn read(
    values: &Values,
    problems: &mut Problems,
    own: Option<&str>,
    has_ring: bool,
) -> Option<Vec<Node>> {
    let mut nodes: Vec<Node> = Vec::new();
    let mut sound = true;
    for row in values.tables("peers") {
        let made = match row {
            Row::Text(row) => of_text(row.text()),
            Row::Table(values) => of_table(values),
        };
        let made = made.and_then(|node| fits(node, &nodes, own, has_ring));
        match made {
            Ok(node) => nodes.push(node),
            Err(problem) => {
                problems.at(&row.place(), problem);
                sound = false;
            }
        }
    }
    sound.then_some(nodes)
}

fn fits(node: Node, others: &[Node], own: Option<&str>, has_ring: bool) -> Result<Node, String> {
    let name = &node.name;
    if own == Some(&**name) {
        return Err(format!("{name} is this node's own name: peers are the others"));
    }
    if others.iter().any(|other| other.name == *name) {
        return Err(format!("{name} is there twice"));
    }
    if node.key.is_none() && !has_ring {
        return Err(format!(
            "{name} needs its key (`,key=...`): there is no --secret-file to derive it from"
        ));
    }
    Ok(node)
}

/// `NAME=ADDR[,key=KEY]`.
fn of_text(text: &str) -> Result<Node, String> {
    let Some((name, rest)) = text.split_once('=') else {
        return Err(format!("'{text}' is no peer; write NAME=tcp://HOST:PORT[,key=PUBLIC KEY]"));
    };
    // A key may hold commas as little as an address does, but `=`.
    match rest.split_once(",key=") {
        Some((addr, key)) => node(name, addr, Some(key)),
        None => node(name, rest, None),
    }
}

fn of_table(values: &Values) -> Result<Node, String> {
    let (Some(name), Some(addr)) = (values.opt_text("name"), values.opt_text("addr")) else {
        return Err("a peer has a name and an addr".to_owned());
    };
    node(&name, &addr, values.opt_text("key").as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_read() {
        let peer = of_text("n2=tcp://[::1]:9654").unwrap();
        assert_eq!((&*peer.name, peer.addr.as_str(), peer.key), ("n2", "tcp://[::1]:9654", None));
        let key = cluster::KeyPair::generate().unwrap().public();
        assert_eq!(of_text(&format!("n2=tcp://h:1,key={key}")).unwrap().key, Some(key));
    }

    #[test]
    fn what_is_no_peer_is_told() {
        for bad in [
            "n2",
            "n2=h:1",
            "n2=tcp://h",
            "n2=tcp://h:0",
            "n2=tcp://:1",
            "a b=tcp://h:1",
            "n2=tcp://h:1,key=x",
        ] {
            assert!(of_text(bad).is_err(), "{bad}");
        }
        let peer = |name| node(name, "tcp://h:1", None).unwrap();
        let twice = fits(peer("n2"), &[peer("n2")], Some("n1"), true).unwrap_err();
        assert!(twice.contains("twice"));
        assert!(fits(peer("n1"), &[], Some("n1"), true).is_err());
        assert!(fits(peer("n2"), &[], Some("n1"), false).unwrap_err().contains("key"));
    }
}
