//! The names of record nodes: `_c_<guid>-<id>-<sequence>`, as the original's library wrote them, and characters that ZooKeeper refuses.

use std::borrow::Cow;

/// A name in its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeName<'a> {
    /// Of whoever created it: by this it finds again what it may have created.
    pub(super) guid: &'a str,
    /// Of the instance, [`escaped`].
    pub(super) id: &'a str,
    /// Given by the server, in the order of creation.
    pub(super) sequence: u64,
}

const MARK: &str = "_c_";
const GUID: usize = 32;
const SEQUENCE: usize = 10;

impl<'a> NodeName<'a> {
    /// None for a node that is no record: `^_c_[A-Za-z0-9]{32}-.+-\d{10}$`.
    pub(super) fn parse(name: &'a str) -> Option<Self> {
        let rest = name.strip_prefix(MARK)?;
        let (guid, rest) = rest.split_at_checked(GUID)?;
        let (rest, sequence) = rest.split_at_checked(rest.len().checked_sub(SEQUENCE)?)?;
        let id = rest.strip_prefix('-')?.strip_suffix('-')?;
        let digits = sequence.bytes().all(|byte| byte.is_ascii_digit());
        let sound = guid.bytes().all(|byte| byte.is_ascii_alphanumeric()) && digits && !id.is_empty();
        Some(Self { guid, id, sequence: sequence.parse().ok()? }).filter(|_| sound)
    }
}

/// A new guid: 32 hexadecimal digits by chance.
pub(super) fn random_guid() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// What the server adds its sequence to; of an id that is [`escaped`].
pub(super) fn stem(guid: &str, id: &str) -> String {
    format!("{MARK}{guid}-{id}-")
}

/// What the server, which counts in UTF-16, has in no path beside control characters.
fn is_refused(c: char) -> bool {
    matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..)
}

/// A name or id as a part of a path: other characters than those refused are themselves, as the original wrote them. A refused one is
/// `%{HEX}`, and so is a percent sign before a brace, so that every text has its own form.
pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_refused) && !text.contains("%{") {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if is_refused(c) || (c == '%' && rest.peek() == Some(&'{')) {
            escaped.push_str(&format!("%{{{:X}}}", u32::from(c)));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// The name or id that has this form.
pub(super) fn unescaped(mut text: &str) -> Cow<'_, str> {
    if !text.contains("%{") {
        return Cow::Borrowed(text);
    }
    let mut plain = String::new();
    while let Some((before, after)) = text.split_once("%{") {
        plain.push_str(before);
        let (hex, rest) = after.split_once('}').unwrap_or(("", after));
        let c = u32::from_str_radix(hex, 16).ok().and_then(char::from_u32);
        match c.filter(|c| is_refused(*c) || *c == '%') {
            Some(c) => {
                plain.push(c);
                text = rest;
            }
            None => {
                plain.push_str("%{");
                text = after;
            }
        }
    }
    plain.push_str(text);
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const G: &str = "0123456789abcdefABCDEF0123456789";

    #[test]
    fn records_are_told_from_other_nodes() {
        let name = format!("_c_{G}-web-1-0000000042");
        assert_eq!(NodeName::parse(&name), Some(NodeName { guid: G, id: "web-1", sequence: 42 }));
        let name = format!("{}0000000001", stem(&random_guid(), "ä-"));
        assert_eq!(NodeName::parse(&name).map(|node| (node.id, node.sequence)), Some(("ä-", 1)));
        for other in [
            String::new(),
            "_c_".to_owned(),
            "lock".to_owned(),
            format!("_c_{G}-web-000000042"),
            format!("_c_{G}--0000000042"),
            format!("_c_{G}-0000000042"),
            format!("_c_{}-web-0000000042", &G[1..]),
            format!("_c_{}ä-web-0000000042", &G[2..]),
            format!("_c_{G}-web-00000000x2"),
            format!("_c_{G}-webä00000042"),
            format!("c_{G}-web-0000000042"),
        ] {
            assert_eq!(NodeName::parse(&other), None, "{other}");
        }
    }

    #[test]
    fn what_the_server_refuses_is_escaped_and_nothing_else() {
        for (plain, form) in [
            ("web-1 ä%2F{}", "web-1 ä%2F{}"),
            ("a\u{1F600}b", "a%{1F600}b"),
            ("\u{e000}\u{f8ff}\u{f900}\u{fff0}", "%{E000}%{F8FF}\u{f900}%{FFF0}"),
            ("%{1F600}", "%{25}{1F600}"),
            ("%{25}{", "%{25}{25}{"),
        ] {
            assert_eq!((escaped(plain), unescaped(form)), (form.into(), plain.into()));
        }
        // None of ours: the original may have written it.
        for other in ["%{", "%{41}", "%{}", "%{x}%{110000}", "%%{D800}}"] {
            assert_eq!(unescaped(other), other);
        }
    }

    proptest::proptest! {
        #[test]
        fn every_text_comes_back(text in "(%|\\{|\\}|[0-9A-F]|\u{e000}|\u{1F600}|.){0,30}") {
            assert_eq!(unescaped(&escaped(&text)), text);
            assert!(!escaped(&text).contains(is_refused));
        }

        #[test]
        fn any_text_is_parsed_without_a_panic(name in "(_c_)?[0-9a-zä]{0,40}-?.{0,20}-?[0-9ä]{0,12}") {
            if let Some(NodeName { guid, id, sequence }) = NodeName::parse(&name) {
                assert_eq!(name, format!("{}{sequence:010}", stem(guid, id)));
            }
        }
    }
}
