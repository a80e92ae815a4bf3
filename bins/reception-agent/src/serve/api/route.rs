//! What a path means, and which methods it takes. Pure.

use http::Method;
use percent_encoding::percent_decode_str;
use reception::Name;

use super::refusal::Refusal;
use crate::serve::posts::Key;

/// What a path means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/v1/services`.
    Services,
    /// `/v1/services/NAME`.
    Service(Name),
    /// `/v1/services/NAME/ID`.
    Instance(Key),
    /// `/v1/services/NAME/ID/heartbeat`.
    Heartbeat(Key),
    /// `/v1/leader/NAME`.
    Leader(Name),
    /// `/v1/leader/NAME/ID`.
    Candidate(Key),
}

impl Route {
    /// Out of a request's path.
    ///
    /// # Errors
    /// 404 for another path, 400 for a name or id that cannot be used.
    pub fn parse(path: &str) -> Result<Self, Refusal> {
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        match segments.as_slice() {
            ["v1", "services"] => Ok(Self::Services),
            ["v1", "services", name] => Ok(Self::Service(named(name)?)),
            ["v1", "services", name, id] => Ok(Self::Instance(key(name, id)?)),
            ["v1", "services", name, id, "heartbeat"] => Ok(Self::Heartbeat(key(name, id)?)),
            ["v1", "leader", name] => Ok(Self::Leader(named(name)?)),
            ["v1", "leader", name, id] => Ok(Self::Candidate(key(name, id)?)),
            _ => Err(Refusal::not_found(
                "there are /v1/services, /v1/services/NAME, /v1/services/NAME/ID and /v1/leader/NAME, beside the admin routes",
            )),
        }
    }

    /// The methods that it takes.
    pub const fn allow(&self) -> &'static str {
        match self {
            Self::Services | Self::Service(_) => "GET, HEAD",
            Self::Instance(_) => "PUT, DELETE",
            Self::Heartbeat(_) => "POST",
            Self::Leader(_) => "GET, HEAD, POST",
            Self::Candidate(_) => "DELETE",
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

/// Whether a method changes anything.
pub fn changes(method: &Method) -> bool {
    *method != Method::GET && *method != Method::HEAD
}

fn named(segment: &str) -> Result<Name, Refusal> {
    Name::new(&decoded(segment)?).map_err(|error| Refusal::bad(error.to_string()))
}

/// The rules of ids are those of names.
fn key(name: &str, id: &str) -> Result<Key, Refusal> {
    Ok((named(name)?, named(id)?.as_str().to_owned()))
}

fn decoded(segment: &str) -> Result<String, Refusal> {
    let text = percent_decode_str(segment).decode_utf8();
    text.map(String::from).map_err(|_| Refusal::bad(format!("'{segment}' in the path is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(path: &str) -> u16 {
        Route::parse(path).map_or_else(|refusal| refusal.status.as_u16(), |_| 200)
    }

    #[test]
    fn paths_mean_what_the_reference_says() {
        let name = |text| Name::new(text).unwrap();
        assert_eq!(Route::parse("/v1/services").unwrap(), Route::Services);
        assert_eq!(Route::parse("/v1/services/a%20b").unwrap(), Route::Service(name("a b")));
        assert_eq!(
            Route::parse("/v1/services/web/%C3%A4/heartbeat").unwrap(),
            Route::Heartbeat((name("web"), "ä".into()))
        );
        assert_eq!(Route::parse("/v1/leader/web/a").unwrap(), Route::Candidate((name("web"), "a".into())));
    }

    #[test]
    fn other_paths_are_404_and_bad_names_400() {
        for path in ["/", "/v1", "/v2/services", "/v1/services/web/a/other", "/v1/leader", "v1/services"] {
            assert_eq!(status(path), 404, "{path}");
        }
        for path in [
            "/v1/services/",
            "/v1/services/a%2Fb",
            "/v1/services/%FF",
            "/v1/services/..",
            "/v1/services/web/",
        ] {
            assert_eq!(status(path), 400, "{path}");
        }
    }

    #[test]
    fn a_wrong_method_is_told_the_right_ones() {
        let refusal = Route::Services.check(&Method::PUT).unwrap_err();
        assert_eq!((refusal.status.as_u16(), refusal.allow), (405, Some("GET, HEAD")));
        assert!(Route::Services.check(&Method::HEAD).is_ok());
        assert!(changes(&Method::POST) && !changes(&Method::HEAD));
    }
}
