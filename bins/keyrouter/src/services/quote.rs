//! Texts from outside in messages.

/// How much of a text a message repeats, in characters.
const QUOTED: usize = 80;

/// `text` in quotes, as much of it as fits a message.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}
