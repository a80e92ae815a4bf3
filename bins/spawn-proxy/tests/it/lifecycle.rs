//! Starting, changing and ending.
