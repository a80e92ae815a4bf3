//! The data path: what happens to a client's request.

mod ack;
pub mod body;
pub mod headers;
pub mod least;
pub mod outlast;
pub mod passage;
pub mod reads;
pub mod reply;
pub mod service;
pub mod tunnel;
pub mod updates;
pub mod upstream;
pub mod worker;
