//! How Redis is reached: addresses, Sentinels, TLS, and time limits for whatever is asked.
//!
//! What is kept there is the business of those who ask. What is shown of an address never holds its password.

#![forbid(unsafe_code)]

mod connect;
mod url;

pub use connect::{DialError, check, dial};
pub use http_fetch::url::UrlError;
pub use url::RedisUrl;
