//! Takes an exact secret out of text and out of a stream, wherever a piece of it is cut.

use secrecy::{ExposeSecret, SecretString};

/// What stands where the secret stood.
pub(crate) const MARK: &str = "[secret]";

/// Shorter secrets are left alone: taking a word like `x` or `none` (which people set for servers
/// that want any key) out of an answer would damage it and protect nothing.
const SCRUBBED_BYTES_MIN: usize = 8;

/// Replaces the secret in bytes that arrive in pieces. Holds back only as many bytes as could be
/// the beginning of the secret, so ordinary text is not delayed.
pub(crate) struct Scrubber {
    secret: Option<SecretString>,
    held: Vec<u8>,
}

impl Scrubber {
    pub(crate) fn new(secret: Option<SecretString>) -> Self {
        let secret = secret.filter(|secret| secret.expose_secret().len() >= SCRUBBED_BYTES_MIN);
        Self { secret, held: Vec::new() }
    }

    pub(crate) fn text(&self, text: &str) -> String {
        match &self.secret {
            Some(secret) => text.replace(secret.expose_secret(), MARK),
            None => text.to_owned(),
        }
    }

    /// What may be passed on of the bytes so far.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        let Some(secret) = &self.secret else { return piece.to_vec() };
        let secret = secret.expose_secret().as_bytes();
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(piece);
        let mut out = Vec::with_capacity(bytes.len());
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            if rest.starts_with(secret) {
                out.extend_from_slice(MARK.as_bytes());
                at += secret.len();
            } else if secret.starts_with(rest) {
                self.held = rest.to_vec();
                break;
            } else {
                out.push(rest[0]);
                at += 1;
            }
        }
        out
    }

    /// The bytes held back, once nothing follows that could make them the secret.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "sk-sk-abcdef";

    fn scrub_in_pieces(text: &[u8], size: usize) -> Vec<u8> {
        let mut scrubber = Scrubber::new(Some(SecretString::from(SECRET)));
        let mut out: Vec<u8> = text.chunks(size).flat_map(|piece| scrubber.push(piece)).collect();
        out.extend(scrubber.finish());
        out
    }

    #[test]
    fn the_secret_is_found_however_it_is_cut() {
        let text = format!("a{SECRET}b sk-sk-sk-abcdef sk-sk-abcde {SECRET}{SECRET}sk-s");
        let expected = "a[secret]b sk-[secret] sk-sk-abcde [secret][secret]sk-s";
        for size in 1..text.len() {
            assert_eq!(
                String::from_utf8(scrub_in_pieces(text.as_bytes(), size)).unwrap(),
                expected,
                "pieces of {size}"
            );
        }
    }

    #[test]
    fn ordinary_text_is_not_held_back() {
        let mut scrubber = Scrubber::new(Some(SecretString::from(SECRET)));
        assert_eq!(scrubber.push(b"data: hello"), b"data: hello");
        assert_eq!(scrubber.push(b"tasks"), b"task");
        assert_eq!(scrubber.push(b"!"), b"s!");
    }

    #[test]
    fn a_secret_too_short_to_be_one_leaves_text_whole() {
        let mut scrubber = Scrubber::new(Some(SecretString::from("x")));
        assert_eq!(scrubber.push(b"exit"), b"exit");
        assert_eq!(scrubber.text("exit"), "exit");
    }
}
