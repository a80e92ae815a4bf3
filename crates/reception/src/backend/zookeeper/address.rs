//! `zk://HOST1:2181,HOST2/PREFIX` and `exhibitor://HOST:8080/exhibitor/v1/cluster/list?path=/PREFIX`.

use http_fetch::url::{Parts, UrlError, host_and_port, shown, shown_host};

use crate::error::Error;

const PORT: u16 = 2181;
const EXHIBITOR_PORT: u16 = 8080;

/// An address in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// For people.
    pub(super) shown: String,
    pub(super) place: Place,
    /// The node above all names: empty, or with a slash at its beginning and none at its end.
    pub(super) root: String,
}

/// Who knows the servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The address itself: `HOST1:PORT,HOST2:PORT`.
    Servers(String),
    /// Whoever answers at this URL.
    Exhibitor(String),
}

impl Address {
    /// Takes it apart; `prefix` replaces its own.
    ///
    /// # Errors
    /// [`Error::Url`].
    pub(super) fn of(url: &str, prefix: Option<&str>) -> Result<Self, Error> {
        parsed(url, prefix).map_err(|UrlError { url, what }| Error::Url { url, what })
    }
}

fn parsed(url: &str, prefix: Option<&str>) -> Result<Address, UrlError> {
    let parts = Parts::of(url)?;
    if parts.authority.contains('@') {
        return Err(UrlError::new(
            url,
            "users and passwords are not supported: records are open to everybody",
        ));
    }
    let (place, own) = match url.split_once(':') {
        Some(("zk", _)) => servers(&parts)?,
        Some(("exhibitor", _)) => exhibitor(&parts)?,
        _ => return Err(UrlError::new(url, "it begins with zk:// or exhibitor://")),
    };
    let prefix = prefix.map_or(own, str::to_owned);
    if !prefix.is_empty() && prefix.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(UrlError::new(url, format!("the prefix {prefix:?} has an empty part, or one of dots")));
    }
    let root = if prefix.is_empty() { prefix } else { format!("/{prefix}") };
    Ok(Address { shown: shown(url), place, root })
}

fn servers(parts: &Parts<'_>) -> Result<(Place, String), UrlError> {
    if let Some(option) = parts.options().next() {
        return Err(parts.unknown(option?.0, "those of zk://, which has none"));
    }
    let hosts: Vec<_> = parts.hosts(PORT)?.iter().map(shown_host).collect();
    Ok((Place::Servers(hosts.join(",")), parts.prefix("")?))
}

fn exhibitor(parts: &Parts<'_>) -> Result<(Place, String), UrlError> {
    let mut prefix = String::new();
    for option in parts.options() {
        match option? {
            ("path", value) => prefix = value.trim_matches('/').to_owned(),
            (name, _) => return Err(parts.unknown(name, "path=/PREFIX")),
        }
    }
    if parts.path.is_empty() {
        let what = "after the host comes the path of its list, usually /exhibitor/v1/cluster/list";
        return Err(UrlError::new(parts.url, what));
    }
    let host = shown_host(&host_and_port(parts.url, parts.authority, EXHIBITOR_PORT)?);
    Ok((Place::Exhibitor(format!("http://{host}/{}", parts.path)), prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Address {
        Address::of(url, None).unwrap()
    }

    #[test]
    fn servers_have_ports_and_a_prefix_or_not() {
        let address = of("zk://a,b:2182,[::1]:3/x/y/");
        assert_eq!(address.place, Place::Servers("a:2181,b:2182,[::1]:3".to_owned()));
        assert_eq!(address.root, "/x/y");
        assert_eq!(of("zk://a").root, "");
        assert_eq!(of("zk://a/").root, "");
        assert_eq!(Address::of("zk://a/x", Some("other/one")).unwrap().root, "/other/one");
        assert_eq!(Address::of("zk://a/x", Some("")).unwrap().root, "");
    }

    #[test]
    fn exhibitor_is_asked_by_http() {
        let address = of("exhibitor://h/exhibitor/v1/cluster/list?path=/p/q");
        assert_eq!(address.place, Place::Exhibitor("http://h:8080/exhibitor/v1/cluster/list".to_owned()));
        assert_eq!((address.root.as_str(), of("exhibitor://h:1/list").root.as_str()), ("/p/q", ""));
    }

    #[test]
    fn what_is_no_address_is_told() {
        for url in [
            "zk://",
            "zk:a",
            "zk://a,",
            "zk://a:x",
            "zk://u:p@a",
            "zk://a/x//y",
            "zk://a?b=c",
            "exhibitor://h",
            "exhibitor://h/list?paht=x",
            "exhibitor://h/list?path=a/../b",
            "http://a/list",
        ] {
            let error = Address::of(url, None).unwrap_err();
            assert!(matches!(error, Error::Url { .. }), "{url}: {error}");
        }
        assert!(!Address::of("zk://u:secret@a", None).unwrap_err().to_string().contains("secret"));
    }
}
