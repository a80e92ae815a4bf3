//! Texts as JSON, escaped the way that the original's encoder does.

/// Appends `text` as a JSON string, quotes included.
///
/// Beyond what JSON asks for, `<`, `>`, `&`, U+2028 and U+2029 are escaped: clients of the original compare bytes.
pub fn escape_into(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    out.push(b'"');
    let mut copied = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let (escape, length): (&[u8], usize) = match byte {
            b'"' => (br#"\""#, 1),
            b'\\' => (br"\\", 1),
            b'\n' => (br"\n", 1),
            b'\r' => (br"\r", 1),
            b'\t' => (br"\t", 1),
            0..0x20 | b'<' | b'>' | b'&' => (b"", 1),
            0xe2 if bytes[at..].starts_with("\u{2028}".as_bytes()) => (br"\u2028", 3),
            0xe2 if bytes[at..].starts_with("\u{2029}".as_bytes()) => (br"\u2029", 3),
            _ => continue,
        };
        out.extend_from_slice(&bytes[copied..at]);
        if escape.is_empty() {
            out.extend_from_slice(br"\u00");
            out.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        } else {
            out.extend_from_slice(escape);
        }
        copied = at + length;
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &str) -> String {
        let mut out = Vec::new();
        escape_into(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_escapes_are_those_of_the_original() {
        for (text, expected) in [
            ("", r#""""#),
            ("bar1:8080", r#""bar1:8080""#),
            ("<b>&:2", r#""\u003cb\u003e\u0026:2""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("\n\r\t", r#""\n\r\t""#),
            ("\u{0}\u{1f}\u{8}\u{c}", r#""\u0000\u001f\u0008\u000c""#),
            ("é\u{7f}\u{2027}\u{2028}x\u{2029}\u{202a}", "\"é\u{7f}\u{2027}\\u2028x\\u2029\u{202a}\""),
            ("[::1]:80/'", r#""[::1]:80/'""#),
        ] {
            assert_eq!(escaped(text), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn a_json_reader_gets_the_text_back(text in "\\PC*|[\\x00-\\x7f\u{2028}\u{2029}é]{0,30}") {
            let back: String = serde_json::from_str(&escaped(&text)).unwrap();
            proptest::prop_assert_eq!(back, text);
        }
    }
}
