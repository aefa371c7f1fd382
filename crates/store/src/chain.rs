//! The hash chain and the signatures of its heads: what `docs/journal.md` describes, byte for byte.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use homarus_contract::ids::Hash;

const EVENT_TAG: &[u8] = b"homarus journal event 1";
const HEAD_TAG: &[u8] = b"homarus journal head 1";

/// Everything an event's hash covers. Text is taken as bytes: a damaged row need not be UTF-8.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link<'a> {
    pub stream: &'a [u8],
    pub seq: u64,
    pub at_ms: u64,
    pub epoch: u64,
    /// Hash of the event before; zero for the first.
    pub prev: &'a Hash,
    pub body: &'a [u8],
    /// Empty: no budget changes.
    pub changes: &'a [u8],
}

impl Link<'_> {
    pub(crate) fn hash(&self) -> Hash {
        Hash::of_parts([
            EVENT_TAG,
            self.stream,
            &self.seq.to_le_bytes(),
            &self.at_ms.to_le_bytes(),
            &self.epoch.to_le_bytes(),
            self.prev.as_bytes(),
            self.body,
            self.changes,
        ])
    }
}

pub(crate) fn sign_head(key: &SigningKey, stream: &str, seq: u64, hash: &Hash) -> [u8; 64] {
    key.sign(head_message(stream, seq, hash).as_bytes()).to_bytes()
}

pub(crate) fn head_is_signed(key: &VerifyingKey, stream: &str, seq: u64, hash: &Hash, signature: &[u8]) -> bool {
    Signature::from_slice(signature)
        .is_ok_and(|signature| key.verify_strict(head_message(stream, seq, hash).as_bytes(), &signature).is_ok())
}

fn head_message(stream: &str, seq: u64, hash: &Hash) -> Hash {
    Hash::of_parts([HEAD_TAG, stream.as_bytes(), &seq.to_le_bytes(), hash.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: Link<'static> =
        Link { stream: b"s", seq: 1, at_ms: 2, epoch: 3, prev: &Hash::ZERO, body: b"{}", changes: b"" };

    /// The value is also the worked example of `docs/journal.md`: a change of format must be seen.
    #[test]
    fn the_format_is_pinned() {
        assert_eq!(LINK.hash().to_hex(), "7e652bdb8a004c39cfd74ced492db32ed4df2fa9d47bc111b83b6e6f3b29a333");
    }

    #[test]
    fn every_field_counts() {
        let other = Hash::of(b"x");
        let variants = [
            Link { stream: b"t", ..LINK },
            Link { seq: 2, ..LINK },
            Link { at_ms: 3, ..LINK },
            Link { epoch: 4, ..LINK },
            Link { prev: &other, ..LINK },
            Link { body: b"{ }", ..LINK },
            Link { changes: b"[]", ..LINK },
        ];
        for variant in variants {
            assert_ne!(variant.hash(), LINK.hash(), "{variant:?}");
        }
    }

    #[test]
    fn a_head_signature_fits_one_head_only() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let hash = Hash::of(b"head");
        let signature = sign_head(&key, "s", 4, &hash);
        let public = key.verifying_key();
        assert!(head_is_signed(&public, "s", 4, &hash, &signature));
        assert!(!head_is_signed(&public, "s", 3, &hash, &signature));
        assert!(!head_is_signed(&public, "t", 4, &hash, &signature));
        assert!(!head_is_signed(&public, "s", 4, &Hash::ZERO, &signature));
        assert!(!head_is_signed(&public, "s", 4, &hash, &signature[..63]));
    }
}
