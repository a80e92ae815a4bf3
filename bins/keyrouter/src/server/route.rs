//! Which route a path is.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// What is asked for. Names are as they were sent but for their percent-encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// `/service`: the names of all services.
    Services,
    /// `/service/NAME`: the nodes of a key.
    Lookup(Cow<'a, str>),
    /// `/batch/NAME`: the nodes of many keys.
    Batch(Cow<'a, str>),
    /// `/nodes/NAME`: all nodes.
    Nodes(Cow<'a, str>),
    /// None of these.
    Other,
}

/// The path of a name is whatever stands behind the route's: slashes, dots and all.
pub(super) fn route(path: &str) -> Route<'_> {
    if let Some(name) = path.strip_prefix("/service/") {
        Route::Lookup(decode(name))
    } else if path == "/service" {
        Route::Services
    } else if let Some(name) = path.strip_prefix("/batch/") {
        Route::Batch(decode(name))
    } else if let Some(name) = path.strip_prefix("/nodes/") {
        Route::Nodes(decode(name))
    } else {
        Route::Other
    }
}

/// A `%` that stands for nothing stands for itself, and bytes that are no text for U+FFFD.
fn decode(name: &str) -> Cow<'_, str> {
    percent_decode_str(name).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_stands_behind_the_route() {
        for (path, name) in [
            ("/service/bar", "bar"),
            ("/service/bar/", "bar/"),
            ("/service/", ""),
            ("/service//bar", "/bar"),
            ("/service/../service/bar", "../service/bar"),
            ("/service/a%2Fb", "a/b"),
            ("/service/a/b", "a/b"),
            ("/service/sp%20ace", "sp ace"),
            ("/service/a+b", "a+b"),
            ("/service/%C3%A9", "é"),
            ("/service/100%", "100%"),
            ("/service/%FF", "\u{fffd}"),
        ] {
            assert_eq!(route(path), Route::Lookup(name.into()), "{path}");
        }
        assert_eq!(route("/service"), Route::Services);
        assert_eq!(route("/batch/a%20b"), Route::Batch("a b".into()));
        assert_eq!(route("/nodes/x"), Route::Nodes("x".into()));
        for path in ["/", "", "/servicefoo", "/batch", "/nodes", "/Service/x", "//service/x"] {
            assert_eq!(route(path), Route::Other, "{path}");
        }
    }
}
