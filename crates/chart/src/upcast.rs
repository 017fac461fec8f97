//! Snapshots to and from bytes, and what turns an older schema into the present one.
//!
//! Two bytes of schema number stand before the body. A number that this build does not know is an error, never a
//! guess. When the shape of a snapshot changes, the old shape moves here under its number with a function that makes the
//! next one of it; nothing that was ever written is forgotten.
//!
//! Deliberately absent: checksums and compression (the store's), migrations between definitions.

use statehouse_contract::codec::{self, CodecError};

use crate::snapshot::Snapshot;

/// The schema that this build writes.
pub(crate) const SCHEMA: u16 = 1;

/// Why bytes are no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The bytes end before the schema number does.
    #[error("the snapshot has no schema number")]
    NoSchema,
    /// A schema of a newer or a foreign build.
    #[error("snapshot schema {found} is unknown to this build, which reads up to {SCHEMA}")]
    UnknownSchema {
        /// The number in the bytes.
        found: u16,
    },
    /// The body does not read.
    #[error("the snapshot's body does not read")]
    Body(#[source] CodecError),
}

impl Snapshot {
    /// Returns the bytes that are stored.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = SCHEMA.to_be_bytes().to_vec();
        codec::append_bare(self, &mut bytes);
        bytes
    }

    /// Reads stored bytes, of this schema or an older one.
    ///
    /// # Errors
    /// When the bytes are no snapshot that this build knows.
    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let (schema, body) = bytes.split_first_chunk::<2>().ok_or(SnapshotError::NoSchema)?;
        let found = u16::from_be_bytes(*schema);
        if found != SCHEMA {
            return Err(SnapshotError::UnknownSchema { found });
        }
        codec::decode_bare(body).map_err(SnapshotError::Body)
    }
}
