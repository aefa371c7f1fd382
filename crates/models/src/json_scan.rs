//! Notices, piece by piece, where a JSON object that is being streamed ends.
//!
//! An object delimits itself: once its last brace has come, nothing can follow. So a tool call
//! can run as soon as its arguments are complete, before the provider says so.

/// Follows one streamed value. Each byte is looked at once.
#[derive(Debug, Default)]
pub(crate) struct ObjectEnd {
    depth: u32,
    in_string: bool,
    escaped: bool,
    ended: bool,
}

impl ObjectEnd {
    /// Takes the next piece; true once an object is complete.
    pub(crate) fn push(&mut self, piece: &str) -> bool {
        for byte in piece.bytes() {
            if self.ended {
                break;
            }
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.ended = byte == b'}' && self.depth == 0;
                }
                _ => {}
            }
        }
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_the_last_brace_and_no_other() {
        let text = r#" {"a":"}\"}","b":[{},{"c":"\\"}]}"#;
        for size in 1..text.len() {
            let mut scan = ObjectEnd::default();
            let pieces: Vec<&str> =
                text.as_bytes().chunks(size).map(|chunk| std::str::from_utf8(chunk).unwrap()).collect();
            for (index, piece) in pieces.iter().enumerate() {
                assert_eq!(scan.push(piece), index + 1 == pieces.len(), "pieces of {size}, {index}");
            }
        }
    }
}
