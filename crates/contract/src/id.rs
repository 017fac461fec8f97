//! Identities: who owns, which instance, which slice, which shard, which node.
//!
//! Each type has one `parse` that checks; there is no other way in, so nothing below the edge checks
//! again. The bucket of an instance is fixed for ever and has golden vectors in the tests.
//!
//! Absent on purpose: the map from buckets to shards. It is data in shard 0 and belongs to `cluster`.

use std::fmt;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::limits;

/// Why a text is no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {problem}")]
pub struct IdError {
    /// Which identity was asked for, in words.
    pub what: &'static str,
    /// What is wrong and what would be right.
    pub problem: String,
}

fn check(
    what: &'static str,
    text: &str,
    bytes_max: usize,
    alphabet: &'static str,
    allowed: fn(u8) -> bool,
) -> Result<(), IdError> {
    let problem = if text.is_empty() {
        "is empty".to_owned()
    } else if text.len() > bytes_max {
        format!("has {} bytes, at most {bytes_max} are allowed", text.len())
    } else if let Some((place, character)) =
        text.char_indices().find(|(_, c)| !c.is_ascii() || !allowed(*c as u8))
    {
        format!("has {character:?} at byte {place}; allowed are {alphabet}")
    } else {
        return Ok(());
    };
    Err(IdError { what, problem })
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:expr, $alphabet:literal, $allowed:expr) => {
        $(#[$doc])*
        ///
        /// Invariant: the text was checked by `parse`; there is no other way in but the codec, which
        /// reads only what this process or a peer once parsed.
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode, Serialize)]
        #[serde(transparent)]
        pub struct $name(Box<str>);

        impl $name {
            /// Takes a text that fits the rules of this identity.
            ///
            /// # Errors
            /// Says what is wrong with the text and what would be right.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                check($what, text, $max, $alphabet, $allowed)?;
                Ok(Self(text.into()))
            }

            /// Returns the text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id!(
    /// A tenant's stable name: 1 to 64 bytes of `[a-z0-9-]`.
    TenantId, "tenant", limits::TENANT_BYTES_MAX, "a-z, 0-9 and -",
    |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'
);
text_id!(
    /// An instance's name within its tenant: 1 to 128 bytes of `[A-Za-z0-9._-]`.
    InstanceId, "instance id", limits::INSTANCE_BYTES_MAX, "A-Z, a-z, 0-9, . _ and -",
    |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')
);
text_id!(
    /// A client's name for a command: 1 to 128 visible ASCII characters.
    KeyText, "idempotency key", limits::KEY_BYTES_MAX, "visible ASCII characters",
    |b| b.is_ascii_graphic()
);
text_id!(
    /// A client's name for a conversation: 1 to 128 visible ASCII characters.
    CorrelationId, "correlation id", limits::CORRELATION_BYTES_MAX, "visible ASCII characters",
    |b| b.is_ascii_graphic()
);
text_id!(
    /// The name of a definition: 1 to 128 bytes of `[A-Za-z0-9_-]`.
    DefinitionName, "definition name", limits::NAME_BYTES_MAX, "A-Z, a-z, 0-9, _ and -",
    |b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')
);
text_id!(
    /// The name of a role on a credential: 1 to 128 bytes of `[A-Za-z0-9_:.-]`.
    RoleName, "role", limits::NAME_BYTES_MAX, "A-Z, a-z, 0-9, _ : . and -",
    |b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':' | b'.' | b'-')
);

/// An instance, named through its tenant. No function below the edge takes one without the other.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize,
)]
pub struct InstanceKey {
    /// The owner.
    pub tenant: TenantId,
    /// The name within the owner.
    pub instance: InstanceId,
}

impl InstanceKey {
    /// Returns the slice of all keys to which this instance belongs, for ever.
    #[must_use]
    pub fn bucket(&self) -> Bucket {
        let mut hash = blake3::Hasher::new();
        hash.update(self.tenant.as_str().as_bytes());
        hash.update(&[0]);
        hash.update(self.instance.as_str().as_bytes());
        let bytes = hash.finalize();
        let [first, second, ..] = *bytes.as_bytes();
        Bucket(u16::from_be_bytes([first, second]) & (limits::BUCKETS - 1))
    }
}

impl fmt::Display for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.instance)
    }
}

/// One of the 4,096 fixed slices of all keys.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Bucket(u16);

impl Bucket {
    /// Takes a slice number below [`limits::BUCKETS`].
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if number < limits::BUCKETS { Some(Self(number)) } else { None }
    }

    /// Returns the number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// A set of buckets with its own log. Shard 0 also holds members, tenants, keys and definitions.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ShardId(pub u32);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A node: its number and how often a node of that number was made anew after losing its data.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize,
)]
pub struct NodeId {
    /// The node's number, from 1.
    pub number: u32,
    /// The incarnation, from 1; a wiped node gets the next one and never votes as the old.
    pub incarnation: u32,
}

impl NodeId {
    /// Returns the id under which the consensus engine knows this incarnation.
    #[must_use]
    pub const fn raft(self) -> u64 {
        ((self.number as u64) << 32) | self.incarnation as u64
    }
}

impl std::str::FromStr for NodeId {
    type Err = IdError;

    /// Reads `n<number>.<incarnation>`.
    fn from_str(text: &str) -> Result<Self, IdError> {
        let read = || {
            let (number, incarnation) = text.strip_prefix('n')?.split_once('.')?;
            let node =
                Self { number: number.parse().ok()?, incarnation: incarnation.parse().ok()? };
            (node.to_string() == text).then_some(node)
        };
        read().ok_or_else(|| IdError {
            what: "node",
            problem: format!("{text:?} is no n<number>.<incarnation>, such as n2.1"),
        })
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}.{}", self.number, self.incarnation)
    }
}

/// When an instance was born (position of its Start entry) and how often it has moved.
///
/// Always used as a pair, so that a swept and reborn id cannot match an old tag.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize,
)]
pub struct Version {
    /// Position of the Start entry in its shard's log.
    pub born: u64,
    /// Number of `Transitioned` entries since then, the start included.
    pub version: u64,
}

impl Version {
    /// Reads `"<born>.<version>"` with or without its quotes, as an `If-Match` header carries it.
    ///
    /// # Errors
    /// Says what an entity tag looks like.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let bare = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
        let pair = bare.split_once('.').and_then(|(born, version)| {
            Some(Self { born: born.parse().ok()?, version: version.parse().ok()? })
        });
        pair.ok_or_else(|| IdError {
            what: "version",
            problem: format!("{text:?} is not of the form \"<born>.<version>\", as ETag gives it"),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.born, self.version)
    }
}

/// A fingerprint of a definition's canonical document: BLAKE3, 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Returns the fingerprint of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Reads 64 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text).ok().map(|hash| Self(*hash.as_bytes()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(blake3::Hash::from_bytes(self.0).to_hex().as_str())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Writes bytes as lower-case base32 (RFC 4648 alphabet, no padding), the form of derived ids.
#[must_use]
pub fn base32(bytes: &[u8], characters: usize) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut text = String::with_capacity(characters);
    let (mut held, mut bits) = (0u32, 0u32);
    for byte in bytes {
        held = (held << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 && text.len() < characters {
            bits -= 5;
            let index = (held >> bits) & 31;
            text.push(char::from(
                *ALPHABET.get(index as usize).expect("five bits index 32 letters"),
            ));
        }
    }
    text
}

/// Returns the id of an instance whose starter left it out: `i-` and 26 characters of the hash of
/// tenant and key, so that a repeat of the command meets the same instance.
#[must_use]
pub fn derived_instance(tenant: &TenantId, key: &KeyText) -> InstanceId {
    let mut hash = blake3::Hasher::new();
    hash.update(tenant.as_str().as_bytes());
    hash.update(&[0]);
    hash.update(key.as_str().as_bytes());
    InstanceId(format!("i-{}", base32(hash.finalize().as_bytes(), 26)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tenant: &str, instance: &str) -> InstanceKey {
        InstanceKey {
            tenant: TenantId::parse(tenant).unwrap(),
            instance: InstanceId::parse(instance).unwrap(),
        }
    }

    #[test]
    fn buckets_never_change() {
        let golden = [("default", "a-1"), ("acme", "order-42"), ("t", "x")]
            .map(|(tenant, instance)| key(tenant, instance).bucket().number());
        expect_test::expect!["[1350, 2321, 3739]"].assert_eq(&format!("{golden:?}"));
    }

    #[test]
    fn a_derived_id_depends_on_tenant_and_key_alone() {
        let id =
            derived_instance(&TenantId::parse("acme").unwrap(), &KeyText::parse("k-1").unwrap());
        expect_test::expect!["i-mphgespol7lgfzkq5qlvl5wekm"].assert_eq(id.as_str());
        assert_eq!(InstanceId::parse(id.as_str()).unwrap(), id);
    }

    #[test]
    fn a_wrong_text_is_refused_with_its_place() {
        let said = |r: Result<InstanceId, IdError>| r.unwrap_err().to_string();
        assert_eq!(said(InstanceId::parse("")), "instance id is empty");
        assert_eq!(
            said(InstanceId::parse("a/b")),
            "instance id has '/' at byte 1; allowed are A-Z, a-z, 0-9, . _ and -"
        );
        assert_eq!(
            said(InstanceId::parse("aé")),
            "instance id has 'é' at byte 1; allowed are A-Z, a-z, 0-9, . _ and -"
        );
        assert_eq!(
            said(InstanceId::parse(&"a".repeat(129))),
            "instance id has 129 bytes, at most 128 are allowed"
        );
        assert!(TenantId::parse("Acme").is_err());
        assert!(KeyText::parse("with space").is_err());
    }

    #[test]
    fn a_version_is_read_with_and_without_quotes() {
        let expected = Version { born: 17, version: 3 };
        assert_eq!(Version::parse("\"17.3\""), Ok(expected));
        assert_eq!(Version::parse("17.3"), Ok(expected));
        assert_eq!(expected.to_string(), "17.3");
        assert!(Version::parse("3").is_err());
        assert!(Version::parse("W/\"17.3\"").is_err());
    }
}
