//! The stored answer of a command: yes, no, or postponed, with its exact bytes.
//!
//! A repeat of the command gets these bytes again, from any node, after any restart. The position is the
//! only part that is not known when the answer is decided; it is spliced in at the end of the body, from
//! the log, always in the same way.
//!
//! Absent on purpose: whether an answer is a repeat. That is a header of one exchange, not a fact.

use bincode::{Decode, Encode};

use crate::{Digest, Json, OutcomeClass, RejectionCode, Version};

/// What kind of answer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ReceiptKind {
    /// An instance, a version, a tenant or a key was made.
    Created,
    /// Done.
    Accepted,
    /// Kept for a later state; the final answer comes under the same key.
    Postponed,
    /// Judged and refused.
    Refused(RejectionCode),
}

impl ReceiptKind {
    /// Returns the class for metrics.
    #[must_use]
    pub const fn class(self) -> OutcomeClass {
        match self {
            Self::Created | Self::Accepted => OutcomeClass::Ok,
            Self::Postponed => OutcomeClass::Postponed,
            Self::Refused(code) => code.class(),
        }
    }
}

/// An answer as the log carries it and the rows keep it: without its position.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct StoredReceipt {
    /// What kind of answer it is.
    pub kind: ReceiptKind,
    /// The fingerprint of the request; another request under the same key is `key_reused`.
    pub fingerprint: Digest,
    /// The instance's version after it, or at which it was judged. `born` 0 stands for the entry's own
    /// position: a start does not know it yet.
    pub version: Option<Version>,
    /// The body: a JSON object, still without `position`.
    pub body: Json,
}

/// An answer as it leaves the house.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Receipt {
    /// What kind of answer it is.
    pub kind: ReceiptKind,
    /// The fingerprint of the request that it answered first.
    pub fingerprint: Digest,
    /// The instance's version after it, or at which it was judged.
    pub version: Option<Version>,
    /// Place of its entry in the shard's log.
    pub position: u64,
    /// The exact body.
    pub body: Json,
    /// Whether this is the stored answer of an earlier attempt (header `Idempotency-Replayed`).
    pub replayed: bool,
}

impl StoredReceipt {
    /// Returns the answer that this becomes when its entry stands at `position`.
    #[must_use]
    pub fn at(&self, position: u64) -> Receipt {
        Receipt {
            kind: self.kind,
            fingerprint: self.fingerprint,
            version: self
                .version
                .map(|v| Version { born: if v.born == 0 { position } else { v.born }, ..v }),
            position,
            body: with_position(&self.body, position),
            replayed: false,
        }
    }
}

/// Writes `"position":N` as the last member of an object.
fn with_position(body: &Json, position: u64) -> Json {
    let open = body.as_str().strip_suffix('}').expect("a receipt's body is a JSON object");
    let comma = if open.len() > 1 { "," } else { "" };
    Json::from_trusted(format!("{open}{comma}\"position\":{position}}}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_is_spliced_in_at_the_end() {
        let stored = StoredReceipt {
            kind: ReceiptKind::Created,
            fingerprint: Digest::of(b"x"),
            version: Some(Version { born: 0, version: 1 }),
            body: Json::parse(br#"{"version": 1}"#).unwrap(),
        };
        let receipt = stored.at(17);
        assert_eq!(receipt.body.as_str(), r#"{"version":1,"position":17}"#);
        assert_eq!(receipt.version, Some(Version { born: 17, version: 1 }));
        assert_eq!(with_position(&Json::empty_object(), 3).as_str(), r#"{"position":3}"#);
    }
}
