//! Who may call: passwords, tokens of logins, certificates. Pure but for the clock of tokens.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use argon2::{Algorithm as Argon, Argon2, Params, Version};
use daemon::http::{Guard, Refusal as Forbidden, Token};
use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::refusal::Refusal;
use crate::config::{AccessConfig, ApiConfig, is_loopback};

/// The name of the cookie.
pub const COOKIE_NAME: &str = "session";
/// Changes with the derivation: nodes that differ in it do not take each other's tokens.
const SALT: &[u8] = b"muster cluster-node api v1";
/// As for the cluster's own keys: about 20 ms a guess for whoever has seen a token.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// What a token says.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Claims {
    /// Who logged in.
    pub sub: String,
    /// The same, as the original calls it.
    pub username: String,
    /// Until when it holds, in seconds since 1970.
    pub exp: u64,
    /// The same, as the original calls it.
    pub expire: u64,
}

/// What logins are judged by.
#[derive(Clone)]
pub struct Password {
    digest: [u8; 32],
    sign: EncodingKey,
    verify: DecodingKey,
    /// It is the cluster's secret, which is not to go over an open connection.
    is_secret: bool,
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}

impl Password {
    fn new(text: &str, is_secret: bool) -> anyhow::Result<Self> {
        let params =
            Params::new(MEMORY_KIB, PASSES, LANES, Some(64)).context("deriving the key of tokens")?;
        let mut key = Zeroizing::new([0; 64]);
        Argon2::new(Argon::Argon2id, Version::V0x13, params)
            .hash_password_into(text.as_bytes(), SALT, key.as_mut())
            .context("deriving the key of tokens")?;
        let (sign, verify) = (EncodingKey::from_secret(key.as_ref()), DecodingKey::from_secret(key.as_ref()));
        Ok(Self { digest: Sha256::digest(text).into(), sign, verify, is_secret })
    }

    /// Whether this is it. How long it takes says nothing.
    pub fn is(&self, given: &str) -> bool {
        let given: [u8; 32] = Sha256::digest(given).into();
        self.digest.ct_eq(&given).into()
    }

    /// A token for whoever has given the password, and until when it holds.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn token(
        &self,
        username: &str,
        now: SystemTime,
        lasts: Duration,
    ) -> anyhow::Result<(String, SystemTime)> {
        let until = seconds(now) + lasts.as_secs().max(1);
        let claims =
            Claims { sub: username.to_owned(), username: username.to_owned(), exp: until, expire: until };
        let token = encode(&Header::new(Algorithm::HS512), &claims, &self.sign).context("signing a token")?;
        Ok((token, UNIX_EPOCH + Duration::from_secs(until)))
    }

    /// Who a token belongs to.
    fn read(&self, token: &str, now: SystemTime) -> Result<String, &'static str> {
        let mut rules = Validation::new(Algorithm::HS512);
        rules.leeway = 0;
        rules.set_required_spec_claims(&["exp", "sub"]);
        let claims = decode::<Claims>(token, &self.verify, &rules).map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => "the token has expired: log in again",
            ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
                "the token is not signed with HS512, the only way that is taken"
            }
            ErrorKind::MissingRequiredClaim(_) | ErrorKind::Json(_) => {
                "the token lacks one of sub, username, exp and expire"
            }
            _ => "the token was not signed with the password of this API",
        })?;
        let claims = claims.claims;
        let now = seconds(now);
        if claims.exp <= now || claims.expire <= now {
            return Err("the token has expired: log in again");
        }
        Ok(claims.sub)
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Who may call.
#[derive(Clone, Debug)]
pub struct Access {
    token: Option<Token>,
    certificates: bool,
    insecure: bool,
    tls: bool,
    password: Option<Password>,
}

/// Where a call comes from.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// From where.
    pub peer: SocketAddr,
    /// To where.
    pub local: SocketAddr,
    /// Whether over TLS.
    pub tls: bool,
    /// Whether with a certificate of ours.
    pub has_certificate: bool,
}

impl Access {
    /// As configured. Takes about 20 ms.
    ///
    /// # Errors
    /// When no key can be derived.
    pub fn new(config: &ApiConfig) -> anyhow::Result<Self> {
        let AccessConfig { token, insecure, password, own_password } = &config.access;
        let password = password.as_ref().map(|text| Password::new(text, !own_password)).transpose()?;
        let certificates =
            config.tls.as_ref().is_some_and(|tls| tls.client_auth != daemon::tls::ClientAuth::None);
        Ok(Self {
            token: token.clone(),
            certificates,
            insecure: *insecure,
            tls: config.tls.is_some(),
            password,
        })
    }

    /// Whether this caller may look.
    ///
    /// # Errors
    /// 401 or 403.
    pub fn may_look(&self, headers: &HeaderMap, caller: Caller, now: SystemTime) -> Result<(), Refusal> {
        self.has_certificate(caller)?;
        if is_loopback(caller.peer.ip()) || self.insecure || self.certificates {
            return Ok(());
        }
        self.who(headers, now).map(|_| ())
    }

    /// Who this caller is, who may change things.
    ///
    /// # Errors
    /// 401 or 403.
    pub fn may_change(
        &self,
        headers: &HeaderMap,
        caller: Caller,
        now: SystemTime,
    ) -> Result<String, Refusal> {
        self.has_certificate(caller)?;
        self.is_open(caller)?;
        let who = match (self.insecure, self.certificates) {
            (true, _) => "anybody".to_owned(),
            (_, true) => "a certificate".to_owned(),
            _ => self.who(headers, now)?,
        };
        own_page(headers, caller)?;
        Ok(who)
    }

    /// The password that a login from there is judged by.
    ///
    /// # Errors
    /// 403.
    pub fn may_log_in(&self, headers: &HeaderMap, caller: Caller) -> Result<&Password, Refusal> {
        self.has_certificate(caller)?;
        self.is_open(caller)?;
        own_page(headers, caller)?;
        let Some(password) = &self.password else {
            return Err(Refusal::forbidden("there is no password to log in with: set --api-secret-file"));
        };
        if password.is_secret && !caller.tls && !is_loopback(caller.peer.ip()) {
            return Err(Refusal::forbidden(
                "the password is the cluster's secret, which must not go over an open connection: set --api-secret-file, or --tls-cert and --tls-key",
            ));
        }
        Ok(password)
    }

    fn has_certificate(&self, caller: Caller) -> Result<(), Refusal> {
        if self.certificates && !caller.has_certificate {
            return Err(Refusal::forbidden("a client certificate is needed"));
        }
        Ok(())
    }

    /// On an address that others reach, something has to be set that says who they are.
    fn is_open(&self, caller: Caller) -> Result<(), Refusal> {
        let own_password = self.password.as_ref().is_some_and(|password| !password.is_secret || self.tls);
        let known = self.token.is_some() || own_password || self.certificates || self.insecure;
        if known || is_loopback(caller.local.ip()) {
            return Ok(());
        }
        Err(Refusal::forbidden(format!(
            "changes are not allowed on {}: set --api-secret-file, --api-token-file, TLS or --tls-client-ca to know who calls, listen on 127.0.0.1 (--api), or let everybody do everything with --insecure-api",
            caller.local
        )))
    }

    fn who(&self, headers: &HeaderMap, now: SystemTime) -> Result<String, Refusal> {
        if self.token.as_ref().is_some_and(|token| token.is_in(headers)) {
            return Ok("the API token".to_owned());
        }
        let Some(given) = credential(headers) else {
            return Err(Refusal::who(
                "a login is needed: POST /api/v1/login, then send its token as Authorization: Bearer or as the cookie",
            ));
        };
        let Some(password) = &self.password else {
            return Err(Refusal::forbidden("the token is not the one of --api-token-file"));
        };
        password.read(&given, now).map_err(Refusal::forbidden)
    }
}

/// The token that a call brings; empty where it brings something that is none.
fn credential(headers: &HeaderMap) -> Option<String> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    if let Some(value) = given.next() {
        let bearer = value.to_str().ok().and_then(|text| text.split_once(' '));
        let bearer =
            bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer") && given.next().is_none());
        return Some(bearer.map_or(String::new(), |(_, token)| token.trim().to_owned()));
    }
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE_NAME).map(|(_, token)| token.to_owned())
}

/// A page of another origin has the visitor's cookie sent along.
fn own_page(headers: &HeaderMap, caller: Caller) -> Result<(), Refusal> {
    let guard = Guard { insecure: true, ..Guard::default() };
    match guard.check(headers, caller.has_certificate, caller.local) {
        Err(Forbidden::ForeignOrigin(origin)) => Err(Refusal::forbidden(format!(
            "changes are not allowed from pages of another origin, such as {origin}"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = UNIX_EPOCH;
    const TEXT: &str = "a password of 16 bytes";

    fn now() -> SystemTime {
        SystemTime::now()
    }

    fn password() -> Password {
        Password::new(TEXT, true).unwrap()
    }

    fn access(password: Option<Password>) -> Access {
        Access { token: None, certificates: false, insecure: false, tls: false, password }
    }

    fn caller(peer: &str, local: &str) -> Caller {
        Caller {
            peer: peer.parse().unwrap(),
            local: local.parse().unwrap(),
            tls: false,
            has_certificate: false,
        }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    fn signed(algorithm: Algorithm, key: &EncodingKey, claims: &serde_json::Value) -> String {
        encode(&Header::new(algorithm), claims, key).unwrap()
    }

    #[test]
    fn a_token_holds_until_it_expires_and_on_every_node_of_the_password() {
        let (token, until) = password().token("ann", now(), Duration::from_secs(60)).unwrap();
        assert_eq!(password().read(&token, now()), Ok("ann".to_owned()));
        assert!(password().read(&token, until).unwrap_err().contains("expired"));
        let other = Password::new("another password of the same length", true).unwrap();
        assert!(other.read(&token, now()).is_err());
        assert!(password().is(TEXT) && !password().is("a password of 16 byteS"));
    }

    #[test]
    fn forged_tokens_do_not_hold() {
        let (password, later) = (password(), seconds(now()) + 60);
        let all = serde_json::json!({"sub":"ann","username":"ann","exp":later,"expire":later});
        assert!(password.read(&signed(Algorithm::HS512, &password.sign, &all), now()).is_ok());
        assert!(password.read(&signed(Algorithm::HS256, &password.sign, &all), now()).is_err());
        let guessed = EncodingKey::from_secret(TEXT.as_bytes());
        assert!(password.read(&signed(Algorithm::HS512, &guessed, &all), now()).is_err());
        for lacking in ["sub", "username", "exp", "expire"] {
            let mut some = all.clone();
            some.as_object_mut().unwrap().remove(lacking);
            assert!(
                password.read(&signed(Algorithm::HS512, &password.sign, &some), now()).is_err(),
                "{lacking}"
            );
        }
        let mut expired = all.clone();
        expired["expire"] = 1.into();
        assert!(password.read(&signed(Algorithm::HS512, &password.sign, &expired), now()).is_err());
        // {"alg":"none"}
        let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
        let body = signed(Algorithm::HS512, &password.sign, &all);
        let body = body.split('.').nth(1).unwrap();
        for token in [format!("{none}.{body}."), String::new(), "a.b.c".to_owned()] {
            assert!(password.read(&token, now()).is_err(), "{token}");
        }
    }

    #[test]
    fn nothing_is_401_and_what_does_not_hold_is_403() {
        let access = access(Some(password()));
        let here = caller("127.0.0.1:5", "127.0.0.1:9480");
        let status = |pairs: &[(&'static str, &str)]| {
            access
                .may_change(&headers(pairs), here, now())
                .map_or_else(|refusal| refusal.status.as_u16(), |_| 200)
        };
        let (token, _) =
            access.password.as_ref().unwrap().token("ann", now(), Duration::from_secs(60)).unwrap();
        assert_eq!(status(&[]), 401);
        assert_eq!(status(&[("authorization", "Bearer x")]), 403);
        assert_eq!(status(&[("authorization", "Basic x")]), 403);
        assert_eq!(status(&[("cookie", "session=x")]), 403);
        assert_eq!(status(&[("authorization", &format!("Bearer {token}"))]), 200);
        assert_eq!(status(&[("cookie", &format!("a=b; session={token}"))]), 200);
        let cookie = format!("session={token}");
        assert_eq!(status(&[("cookie", &cookie), ("origin", "http://evil.example")]), 403);
        assert_eq!(status(&[("cookie", &cookie), ("host", "h:1"), ("origin", "http://h:1")]), 200);
        assert!(access.may_look(&HeaderMap::new(), here, now()).is_ok());
    }

    #[test]
    fn others_need_a_login_to_look_and_the_secret_does_not_go_over_an_open_connection() {
        let far = caller("10.0.0.9:5", "10.0.0.1:9480");
        let none = HeaderMap::new();
        let secret = access(Some(password()));
        assert_eq!(secret.may_look(&none, far, NOW).unwrap_err().status, 401);
        assert_eq!(secret.may_change(&none, far, NOW).unwrap_err().status, 403);
        assert_eq!(secret.may_log_in(&none, far).unwrap_err().status, 403);
        let own = access(Some(Password::new(TEXT, false).unwrap()));
        assert_eq!(own.may_change(&none, far, NOW).unwrap_err().status, 401);
        assert!(own.may_log_in(&none, far).is_ok());
        let tls = Access { tls: true, ..access(Some(password())) };
        assert!(tls.may_log_in(&none, Caller { tls: true, ..far }).is_ok());
        let insecure = Access { insecure: true, ..access(None) };
        assert!(insecure.may_change(&none, far, NOW).is_ok() && insecure.may_look(&none, far, NOW).is_ok());
        let certificates = Access { certificates: true, ..access(None) };
        assert_eq!(certificates.may_look(&none, far, NOW).unwrap_err().status, 403);
        assert!(certificates.may_change(&none, Caller { has_certificate: true, ..far }, NOW).is_ok());
    }
}
