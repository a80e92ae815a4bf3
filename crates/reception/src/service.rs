//! The vocabulary: names, ids, services, lists.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use serde::Serialize;

use crate::error::Error;

/// The longest name or id, in bytes.
const LONGEST: usize = 200;
/// The most that the attributes of one service may take as JSON, in bytes: the stores have bounds of their own above it.
const LARGEST_ATTRIBUTES: usize = 64 * 1024;

/// What a service's owner tells about it; any UTF-8.
pub type Attributes = BTreeMap<String, String>;

/// The name of a service: 1 to 200 bytes, no slash, no control character, neither `.` nor `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Name(String);

impl Name {
    /// Checks a name.
    ///
    /// # Errors
    /// [`Error::Illegal`], with what is wrong.
    pub fn new(name: &str) -> Result<Self, Error> {
        checked("name", name).map(Self)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where candidates for its leadership stand apart from its instances: no name that anybody could register.
    pub(crate) fn line(&self) -> Self {
        Self(format!("{}/leader", self.0))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn checked(what: &str, text: &str) -> Result<String, Error> {
    let dots = matches!(text, "." | "..");
    if text.is_empty() || text.len() > LONGEST || dots || text.chars().any(|c| c == '/' || c.is_control()) {
        let shown: String = text.chars().take(40).collect();
        return Err(Error::Illegal(format!(
            "the {what} {shown:?} cannot be used: it needs 1 to {LONGEST} bytes without slashes and control characters, and may not be `.` or `..`"
        )));
    }
    Ok(text.to_owned())
}

fn checked_address(text: &str) -> Result<String, Error> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(bare) = bare.filter(|bare| bare.parse::<Ipv6Addr>().is_ok()) {
        return Ok(bare.to_owned());
    }
    if text.is_empty() || text.parse::<IpAddr>().is_ok() || is_host_name(text) {
        return Ok(text.to_owned());
    }
    let shown: String = text.chars().take(40).collect();
    Err(Error::Illegal(format!(
        "the address {shown:?} cannot be used: it needs a host name or an IP address, and nothing else"
    )))
}

/// As resolvers take it, with the underscore that many networks have. What ends in a number is an address, and would be a wrong one.
fn is_host_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        let within = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        within && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    name.len() <= 253 && name.split('.').all(is_label) && !name.rsplit('.').next().is_some_and(is_number)
}

/// An instance of a service, as its owner describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Service {
    /// Of the service.
    #[serde(skip)]
    pub name: Name,
    /// Of this instance: one id everywhere.
    pub id: String,
    /// Where it is reached: a host name or an IP address, IPv6 without brackets; empty for a candidate that serves nothing.
    pub address: String,
    /// Its port; 0 for a candidate that serves nothing.
    pub port: u16,
    /// Whatever else others should know.
    pub attributes: Attributes,
}

impl Service {
    /// An instance with a random id (a version 4 UUID) and no attributes. The address is a host name, an IPv4 or IPv6 address
    /// (brackets around it are taken off), or empty.
    ///
    /// # Errors
    /// [`Error::Illegal`] for a name or address that cannot be used.
    pub fn new(name: &str, address: &str, port: u16) -> Result<Self, Error> {
        Ok(Self {
            name: Name::new(name)?,
            id: random_id(),
            address: checked_address(address)?,
            port,
            attributes: Attributes::new(),
        })
    }

    /// With this id.
    ///
    /// # Errors
    /// [`Error::Illegal`] for one that cannot be used: the rules are those of names.
    pub fn with_id(mut self, id: &str) -> Result<Self, Error> {
        self.id = checked("id", id)?;
        Ok(self)
    }

    /// With these attributes.
    ///
    /// # Errors
    /// [`Error::Illegal`] when they take more than 64 KiB.
    pub fn with_attributes(mut self, attributes: Attributes) -> Result<Self, Error> {
        let size = serde_json::to_vec(&attributes).map_or(usize::MAX, |json| json.len());
        if size > LARGEST_ATTRIBUTES {
            return Err(Error::Illegal(format!(
                "the attributes of {} take {size} bytes, {LARGEST_ATTRIBUTES} are the most",
                self.id
            )));
        }
        self.attributes = attributes;
        Ok(self)
    }
}

/// A random UUID of version 4 as text.
fn random_id() -> String {
    let bits = (rand::random::<u128>() & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// A service as a store lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// What its owner said.
    pub service: Service,
    /// The store's own number of its creation, which orders lists and elections: creation index, revision, czxid or sequence.
    /// Grows over all instances of a name.
    pub created: u64,
}

/// A list at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// In the order of their creation.
    pub instances: Vec<Instance>,
    /// Differs whenever the list differs; to be compared for equality only.
    pub index: u64,
}

/// Which instances to list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Those that are well.
    #[default]
    Passing,
    /// Those too that Consul holds for unwell; elsewhere there are none.
    All,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_uuids_of_version_4() {
        for _ in 0..100 {
            let id = random_id();
            assert_eq!(id.len(), 36);
            assert_eq!(id.as_bytes()[14], b'4', "{id}");
            assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{id}");
        }
        assert_ne!(random_id(), random_id());
    }

    #[test]
    fn an_address_is_a_host_name_or_an_ip_address() {
        let address = |text: &str| Service::new("web", text, 80).map(|web| web.address);
        for good in
            ["", "h", "web-1.example.com", "a_b", "example.com.", "3com.com", "10.0.0.7", "::1", "fe80::1"]
        {
            assert_eq!(address(good).as_deref(), Ok(good));
        }
        assert_eq!(address("[2001:db8::1]").as_deref(), Ok("2001:db8::1"));
        let (label, long) = ("x".repeat(64), "x.".repeat(128));
        for bad in [
            "a/b?c#d",
            "a\\b",
            "a b",
            "a\n",
            "\u{202e}a",
            "a\u{200b}b",
            "ä",
            "u@h",
            "h:80",
            "[h]",
            "[10.0.0.7]",
            "[::1",
            "::1]",
            "10.0.0.256",
            "10.0.1",
            "7",
            ".",
            "a..b",
            ".a",
            "-a",
            "a-",
            "%61",
            "{{h}}",
            "'h'",
            &label,
            &long,
        ] {
            assert!(matches!(address(bad), Err(Error::Illegal(_))), "{bad:?}");
        }
    }

    #[test]
    fn names_that_would_leave_their_folder_are_refused() {
        for bad in ["", ".", "..", "a/b", "a\nb", &"x".repeat(201)] {
            assert!(Name::new(bad).is_err(), "{bad:?}");
        }
        for good in ["web", "a b", "ä", "a.b", &"x".repeat(200)] {
            assert!(Name::new(good).is_ok(), "{good:?}");
        }
    }
}
