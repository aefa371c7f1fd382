//! Identifiers. Each is a newtype whose constructor validates, so an illegal id has no spelling.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::error::InvalidId;

/// Declares a text id: a newtype over `String` with a validating `parse`, serde and `Display`.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, max $max:literal, allowed $allowed:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Accepts 1 to
            #[doc = stringify!($max)]
            /// characters of the allowed alphabet; anything else is [`InvalidId`].
            pub fn parse(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text = text.into();
                let allowed: fn(char) -> bool = $allowed;
                if text.is_empty() || text.len() > $max || !text.chars().all(allowed) {
                    return Err(InvalidId { what: stringify!($name), text: text.chars().take(80).collect() });
                }
                Ok(Self(text))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }
    };
}

text_id!(
    /// A run. Sortable by creation: 10 base-32 characters of milliseconds, then 8 random ones.
    RunId, max 32, allowed |c| c.is_ascii_lowercase() || c.is_ascii_digit()
);
text_id!(
    /// A tool call, unique within its run: `c<step>.<index>`.
    CallId, max 24, allowed |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.'
);
text_id!(
    /// A driver process, named after its lock file.
    DriverId, max 40, allowed |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
);
text_id!(
    /// A stream of the journal: a run's id, or `system`.
    StreamId, max 40, allowed |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
);

const BASE32: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl RunId {
    /// A fresh id from the wall clock (milliseconds since 1970) and 5 random bytes.
    pub fn generate(at_ms: u64, random: [u8; 5]) -> Self {
        let mut text = base32(at_ms, 10);
        let value = random.iter().fold(0u64, |acc, byte| (acc << 8) | u64::from(*byte));
        text.push_str(&base32(value, 8));
        Self(text)
    }

    pub fn stream(&self) -> StreamId {
        StreamId(self.0.clone())
    }
}

impl DriverId {
    /// A fresh id from 8 random bytes.
    pub fn generate(random: [u8; 8]) -> Self {
        Self(format!("driver-{}", hex::encode(random)))
    }
}

impl StreamId {
    /// The one stream that holds the signed checkpoints of all the others.
    pub fn system() -> Self {
        Self("system".to_owned())
    }

    pub fn is_system(&self) -> bool {
        self.0 == "system"
    }

    /// The run this stream belongs to; `None` for the system stream.
    pub fn run(&self) -> Option<RunId> {
        if self.is_system() { None } else { RunId::parse(self.0.clone()).ok() }
    }
}

impl CallId {
    pub fn new(step: u32, index: u32) -> Self {
        Self(format!("c{step}.{index}"))
    }

    /// The step and the index it was made of; `None` for an id that was not.
    pub fn position(&self) -> Option<(u32, u32)> {
        let (step, index) = self.0.strip_prefix('c')?.split_once('.')?;
        Some((step.parse().ok()?, index.parse().ok()?))
    }
}

fn base32(mut value: u64, digits: usize) -> String {
    let mut out = vec![b'0'; digits];
    for slot in out.iter_mut().rev() {
        *slot = BASE32[(value & 31) as usize];
        value >>= 5;
    }
    out.into_iter().map(char::from).collect()
}

/// A BLAKE3 hash: of a blob, an event, an action. Written as 64 hexadecimal characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash([u8; 32]);

impl Hash {
    pub const ZERO: Hash = Hash([0; 32]);

    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The hash of several parts; each part's length is hashed too, so parts cannot run together.
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self(*hasher.finalize().as_bytes())
    }

    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// The first 12 hexadecimal characters, for people.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({})", self.short())
    }
}

impl FromStr for Hash {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let mut bytes = [0u8; 32];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| InvalidId { what: "Hash", text: text.chars().take(80).collect() })?;
        Ok(Self(bytes))
    }
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_hex())
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_sort_by_time() {
        let early = RunId::generate(1_000, [255; 5]);
        let late = RunId::generate(1_001, [0; 5]);
        assert!(early < late);
        assert_eq!(early.as_str().len(), 18);
        assert_eq!(RunId::parse(early.as_str()).unwrap(), early);
    }

    #[test]
    fn ids_refuse_what_is_not_theirs() {
        for bad in ["", "../etc", "A", "a b", &"a".repeat(33)] {
            assert!(RunId::parse(bad).is_err(), "{bad:?}");
        }
        assert!("xyz".parse::<Hash>().is_err());
    }

    #[test]
    fn parts_cannot_run_together() {
        assert_ne!(Hash::of_parts([b"ab".as_slice(), b"c"]), Hash::of_parts([b"a".as_slice(), b"bc"]));
    }
}
