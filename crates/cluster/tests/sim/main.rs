//! The rules without sockets: many nodes, a network that loses, delays, cuts and holds back, and every seed again.

mod break_it;
mod check;
mod coming;
mod faults;
mod mesh;
mod single;
mod world;
