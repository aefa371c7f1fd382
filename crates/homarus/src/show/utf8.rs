//! Bytes that arrive in pieces, as text: a character cut in two by a border is kept for later.

#[derive(Debug, Default)]
pub struct Utf8Stream {
    held: Vec<u8>,
}

impl Utf8Stream {
    /// The text of everything complete; bytes that are no UTF-8 become `U+FFFD`.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let complete = self.held.len() - incomplete_tail(&self.held);
        let text = String::from_utf8_lossy(&self.held[..complete]).into_owned();
        self.held.drain(..complete);
        text
    }
}

/// The length of a character begun at the end that may still be completed: 0 to 3 bytes.
fn incomplete_tail(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let wanted = match bytes[bytes.len() - back] {
            0b1100_0000..=0b1101_1111 => 2,
            0b1110_0000..=0b1110_1111 => 3,
            0b1111_0000..=0b1111_0111 => 4,
            0b1000_0000..=0b1011_1111 => continue,
            _ => return 0,
        };
        return if back < wanted { back } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::Utf8Stream;

    #[test]
    fn any_split_gives_the_same_text() {
        let text = "aé€😀\u{fffd}z";
        for at in 0..=text.len() {
            let mut stream = Utf8Stream::default();
            let mut got = stream.push(&text.as_bytes()[..at]);
            got.push_str(&stream.push(&text.as_bytes()[at..]));
            assert_eq!(got, text, "split at {at}");
        }
        assert_eq!(Utf8Stream::default().push(b"a\xffb"), "a\u{fffd}b");
    }
}
