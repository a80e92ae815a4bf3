//! What a path means, and which methods it takes. Pure.

use http::Method;
use percent_encoding::percent_decode_str;

use super::refusal::Refusal;

/// What a path means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/api/v1/login`.
    Login,
    /// `/api/v1/cluster`.
    Names,
    /// `/api/v1/cluster/NAME`.
    Cluster,
    /// `.../admin/NODE/ACTION`.
    Admin {
        /// Whom it is for.
        node: String,
        /// What.
        action: String,
    },
    /// `.../broadcast`.
    Broadcast,
    /// `.../send/NODE`.
    Send(String),
    /// `.../nodes/NODE`.
    Node(String),
    /// `.../settings`.
    Settings,
    /// `.../statedump`.
    Statedump,
    /// `.../events`.
    Events,
}

impl Route {
    /// Out of a request's path, on the node of this name.
    ///
    /// # Errors
    /// 404 for another path or node, 400 for what is not UTF-8.
    pub fn parse(path: &str, own: &str) -> Result<Self, Refusal> {
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        let rest = match segments.as_slice() {
            ["api", "v1", "login"] => return Ok(Self::Login),
            ["api", "v1", "cluster"] => return Ok(Self::Names),
            ["api", "v1", "cluster", name, rest @ ..] => {
                let name = decoded(name)?;
                if name != own {
                    return Err(Refusal::not_found(format!("this is node {own}, there is no '{name}' here")));
                }
                rest
            }
            _ => return Err(unknown()),
        };
        match rest {
            [] => Ok(Self::Cluster),
            ["admin", node, action] if !action.is_empty() => {
                Ok(Self::Admin { node: decoded(node)?, action: decoded(action)? })
            }
            ["broadcast"] => Ok(Self::Broadcast),
            ["send", node] => Ok(Self::Send(decoded(node)?)),
            ["nodes", node] => Ok(Self::Node(decoded(node)?)),
            ["settings"] => Ok(Self::Settings),
            ["statedump"] => Ok(Self::Statedump),
            ["events"] => Ok(Self::Events),
            _ => Err(unknown()),
        }
    }

    /// The methods that it takes.
    pub const fn allow(&self) -> &'static str {
        match self {
            Self::Names | Self::Cluster | Self::Events => "GET, HEAD",
            Self::Settings => "GET, HEAD, PUT",
            Self::Node(_) => "PUT, DELETE",
            Self::Login | Self::Admin { .. } | Self::Broadcast | Self::Send(_) | Self::Statedump => "POST",
        }
    }

    /// Whether it takes this method.
    ///
    /// # Errors
    /// 405.
    pub fn check(&self, method: &Method) -> Result<(), Refusal> {
        let allow = self.allow();
        if allow.split(", ").any(|allowed| allowed == method.as_str()) {
            return Ok(());
        }
        Err(Refusal::method(allow))
    }
}

/// Whether a method only looks.
pub fn is_read(method: &Method) -> bool {
    *method == Method::GET || *method == Method::HEAD
}

fn unknown() -> Refusal {
    Refusal::not_found(
        "there are /api/v1/cluster, /api/v1/cluster/NAME with events, broadcast, send/NODE, admin/NODE/ACTION, nodes/NODE, settings and statedump below it, and /api/v1/login, beside the admin routes",
    )
}

fn decoded(segment: &str) -> Result<String, Refusal> {
    let text = percent_decode_str(segment).decode_utf8();
    text.map(String::from).map_err(|_| Refusal::bad(format!("'{segment}' in the path is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_mean_what_the_reference_says() {
        let parse = |path: &str| Route::parse(path, "server1").unwrap();
        assert_eq!(parse("/api/v1/cluster"), Route::Names);
        // A name of letters that stand in the path.
        assert_eq!(parse("/api/v1/cluster/server1"), Route::Cluster);
        assert_eq!(
            parse("/api/v1/cluster/server1/admin/n%202/reconnect"),
            Route::Admin { node: "n 2".into(), action: "reconnect".into() }
        );
        assert_eq!(parse("/api/v1/cluster/server1/send/n2"), Route::Send("n2".into()));
        for (path, status) in [
            ("/", 404),
            ("/api/v1/cluster/", 404),
            ("/api/v1/cluster/n2", 404),
            ("/api/v1/cluster/server1/", 404),
            ("/api/v1/cluster/server1/admin/n2", 404),
            ("/api/v1/cluster/server1/admin/n2/", 404),
            ("/api/v1/cluster/server1/send/%FF", 400),
            ("/api/v2/cluster", 404),
        ] {
            assert_eq!(Route::parse(path, "server1").unwrap_err().status, status, "{path}");
        }
    }

    #[test]
    fn a_wrong_method_is_told_the_right_ones() {
        let refusal = Route::Names.check(&Method::POST).unwrap_err();
        assert_eq!((refusal.status.as_u16(), refusal.allow), (405, Some("GET, HEAD")));
        assert!(Route::Login.check(&Method::GET).is_err());
        assert!(Route::Broadcast.check(&Method::POST).is_ok());
    }
}
