//! What a request asks: `key`, `min` and `max`, in any of the forms that the original knew.
//!
//! A JSON body stands alone; the query is not looked at then. Otherwise `key`, `min` and `max` are
//! looked for in an urlencoded body (POST only), then in the query, then in a multipart body, and the first
//! of a name counts. A key that is not there is the empty key.

pub mod batch;
mod form;
mod json;
mod multipart;

use std::borrow::Cow;

use http::header::{CONTENT_TYPE, HeaderMap};
use http::{Method, Uri};

/// What a lookup asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments<'a> {
    /// Any bytes.
    pub key: Cow<'a, [u8]>,
    /// Fewer nodes than this are an error; 0 and less mean that none is fine.
    pub min: i64,
    /// No more nodes than this.
    pub max: i64,
}

/// Why a request asks for nothing that can be answered: one sentence that names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ArgumentError(String);

/// Characters of a sentence. It may quote the request, which may be long.
const LONGEST: usize = 300;

impl ArgumentError {
    fn new(sentence: impl Into<String>) -> Self {
        let mut sentence = sentence.into();
        if let Some((end, _)) = sentence.char_indices().nth(LONGEST) {
            sentence.truncate(end);
            sentence.push_str("...");
        }
        Self(sentence)
    }
}

/// How a request's body is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// It is not: the query says everything.
    Query,
    /// JSON, whatever the query says.
    Json,
    /// `application/x-www-form-urlencoded`, before the query.
    Urlencoded,
    /// `multipart/form-data`, after the query; with the parts' boundary, unless it is missing.
    Multipart(Option<String>),
}

impl Form {
    /// By the content type, in any case and with any parameters.
    pub fn of(method: &Method, headers: &HeaderMap) -> Self {
        let Some(given) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
            return Self::Query;
        };
        let kind = given.split(';').next().unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case("application/json") {
            Self::Json
        } else if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") && method == Method::POST {
            Self::Urlencoded
        } else if kind.eq_ignore_ascii_case("multipart/form-data") {
            Self::Multipart(multer::parse_boundary(given).ok())
        } else {
            Self::Query
        }
    }

    /// Whether the body says anything.
    pub fn takes_body(&self) -> bool {
        *self != Self::Query
    }
}

/// What the query and the body (empty where it is not read) ask for.
///
/// # Errors
/// Names the field that is missing or no whole number, or what is wrong with the JSON.
pub fn parse<'a>(uri: &'a Uri, form: &Form, body: &'a [u8]) -> Result<Arguments<'a>, ArgumentError> {
    let query = uri.query().unwrap_or_default().as_bytes();
    let mut fields = form::Fields::default();
    let mut broken = None;
    match form {
        Form::Json => return json::parse(body),
        Form::Query => fields.take(query),
        Form::Urlencoded => {
            fields.take(body);
            fields.take(query);
        }
        Form::Multipart(boundary) => {
            fields.take(query);
            broken = multipart::take(boundary.as_deref(), body, &mut fields).err();
        }
    }
    fields.finish().map_err(|error| match broken {
        Some(reason) => {
            ArgumentError::new(format!("{error}; the multipart body could not be read: {reason}"))
        }
        None => error,
    })
}
