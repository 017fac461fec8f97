//! The frame around every byte that is stored or sent, and the one place that knows bincode.
//!
//! A frame is: magic `SH` (2 bytes), format version (1), codec tag (1), body length (4, big endian),
//! CRC32C of the first eight bytes and the body (4, big endian), body. The tag says how the body was
//! encoded, so that bincode 2, whose maintenance has ended, can be replaced without a new file format.
//!
//! Absent on purpose: streaming. A frame is whole in memory and bounded by [`limits::FRAME_BYTES_MAX`].

use bincode::{Decode, Encode, config};

use crate::limits;

/// First bytes of every frame.
pub const MAGIC: [u8; 2] = *b"SH";
/// The newest format that this build reads and the one it writes.
pub const FORMAT: u8 = 1;
/// Codec tag of bincode 2, standard configuration (little endian, variable-length integers).
pub const TAG_BINCODE: u8 = 1;
/// Bytes before the body.
pub const HEADER_BYTES: usize = 12;

/// Why bytes are no frame of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes end before the frame does.
    #[error("frame ends after {found} of {expected} bytes")]
    Short {
        /// How many bytes a whole frame has.
        expected: usize,
        /// How many are there.
        found: usize,
    },
    /// The first bytes are not ours.
    #[error("frame begins with {found:02x?}, expected \"SH\"")]
    Magic {
        /// What is there instead.
        found: [u8; 2],
    },
    /// A newer format or codec than this build knows.
    #[error("frame has format {format} and codec {tag}; this build knows format 1 and codec 1")]
    Unknown {
        /// The format version.
        format: u8,
        /// The codec tag.
        tag: u8,
    },
    /// The checksum does not match: the bytes are damaged.
    #[error("checksum mismatch: expected {expected:08x}, found {found:08x}")]
    Checksum {
        /// What the header says.
        expected: u32,
        /// What the bytes give.
        found: u32,
    },
    /// Longer than any frame may be.
    #[error("frame of {found} bytes, at most {} are allowed", limits::FRAME_BYTES_MAX)]
    TooLong {
        /// The length.
        found: usize,
    },
    /// The body is whole but cannot be read as what it should be.
    #[error("frame body cannot be decoded: {why}")]
    Body {
        /// What bincode says.
        why: String,
    },
}

const fn configuration() -> impl config::Config {
    config::standard().with_limit::<{ limits::FRAME_BYTES_MAX }>()
}

/// Encodes a value without a frame: for hashes, which are compared and never decoded.
#[must_use]
pub fn bare<T: Encode>(value: &T) -> Vec<u8> {
    bincode::encode_to_vec(value, config::standard())
        .expect("types behind the codec have no fallible encoding")
}

/// Encodes a value without a frame behind what a buffer holds already.
pub fn append_bare<T: Encode>(value: &T, buffer: &mut Vec<u8>) {
    bincode::encode_into_std_write(value, buffer, config::standard())
        .expect("writing to memory does not fail");
}

/// Decodes a value that was written without a frame; whoever kept it has checked its bytes.
///
/// # Errors
/// [`CodecError::Body`] when the bytes are no such value, or more than one.
pub fn decode_bare<T: Decode<()>>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, used) = bincode::decode_from_slice(bytes, configuration())
        .map_err(|error| CodecError::Body { why: error.to_string() })?;
    if used == bytes.len() {
        Ok(value)
    } else {
        Err(CodecError::Body { why: format!("{} bytes are left over", bytes.len() - used) })
    }
}

/// Encodes a value into a frame.
///
/// # Errors
/// [`CodecError::TooLong`] when the frame would pass its limit.
pub fn encode<T: Encode>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut frame = vec![0; HEADER_BYTES];
    bincode::encode_into_std_write(value, &mut frame, config::standard())
        .map_err(|error| CodecError::Body { why: error.to_string() })?;
    let body_bytes = frame.len() - HEADER_BYTES;
    if frame.len() > limits::FRAME_BYTES_MAX {
        return Err(CodecError::TooLong { found: frame.len() });
    }
    let length = u32::try_from(body_bytes).expect("checked against the frame limit");
    let mut header = [0; HEADER_BYTES];
    header[..2].copy_from_slice(&MAGIC);
    header[2] = FORMAT;
    header[3] = TAG_BINCODE;
    header[4..8].copy_from_slice(&length.to_be_bytes());
    let (_, body) = frame.split_at(HEADER_BYTES);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&header[..8]), body);
    header[8..].copy_from_slice(&checksum.to_be_bytes());
    frame.splice(..HEADER_BYTES, header);
    Ok(frame)
}

/// Reads how many bytes follow a frame's header, for whoever reads frames from a stream.
///
/// # Errors
/// [`CodecError::Short`], [`CodecError::Magic`], [`CodecError::Unknown`] or [`CodecError::TooLong`].
pub fn length(header: &[u8]) -> Result<usize, CodecError> {
    let short = CodecError::Short { expected: HEADER_BYTES, found: header.len() };
    let (header, _) = header.split_first_chunk::<HEADER_BYTES>().ok_or(short)?;
    let [m0, m1, format, tag, l0, l1, l2, l3, ..] = *header;
    if [m0, m1] != MAGIC {
        return Err(CodecError::Magic { found: [m0, m1] });
    }
    if format != FORMAT || tag != TAG_BINCODE {
        return Err(CodecError::Unknown { format, tag });
    }
    let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    if length > limits::FRAME_BYTES_MAX {
        return Err(CodecError::TooLong { found: length });
    }
    Ok(length)
}

/// Checks a frame and returns its body, still encoded.
///
/// # Errors
/// Every variant of [`CodecError`] but `Body`.
pub fn check(frame: &[u8]) -> Result<&[u8], CodecError> {
    let short = |expected| CodecError::Short { expected, found: frame.len() };
    let Some((header, rest)) = frame.split_first_chunk::<HEADER_BYTES>() else {
        return Err(short(HEADER_BYTES));
    };
    let length = length(header)?;
    let [.., c0, c1, c2, c3] = *header;
    let body = rest.get(..length).ok_or_else(|| short(HEADER_BYTES + length))?;
    let expected = u32::from_be_bytes([c0, c1, c2, c3]);
    let (sealed, _) = header.split_at(8);
    let found = crc32c::crc32c_append(crc32c::crc32c(sealed), body);
    if expected == found { Ok(body) } else { Err(CodecError::Checksum { expected, found }) }
}

/// Checks a frame and decodes its body.
///
/// # Errors
/// Says what is wrong with the frame; a damaged one is never decoded.
pub fn decode<T: Decode<()>>(frame: &[u8]) -> Result<T, CodecError> {
    decode_bare(check(frame)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_back() {
        let frame = encode(&(7u64, "seven".to_owned())).unwrap();
        assert_eq!(decode::<(u64, String)>(&frame), Ok((7, "seven".to_owned())));
        assert_eq!(frame[..4], [b'S', b'H', 1, 1]);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let frame = encode(&(7u64, "seven".to_owned())).unwrap();
        for bit in 0..frame.len() * 8 {
            let mut damaged = frame.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode::<(u64, String)>(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn each_error_says_what_is_wrong() {
        let frame = encode(&1u8).unwrap();
        let said = |bytes: &[u8]| decode::<u8>(bytes).unwrap_err().to_string();
        assert_eq!(said(&frame[..5]), "frame ends after 5 of 12 bytes");
        assert_eq!(said(&frame[..12]), "frame ends after 12 of 13 bytes");
        assert_eq!(
            said(&[b"XX", &frame[2..]].concat()),
            "frame begins with [58, 58], expected \"SH\""
        );
        assert_eq!(
            said(&[b"SH\x02\x01", &frame[4..]].concat()),
            "frame has format 2 and codec 1; this build knows format 1 and codec 1"
        );
        let long = vec![0u8; limits::FRAME_BYTES_MAX];
        assert!(matches!(encode(&long), Err(CodecError::TooLong { .. })));
        assert!(matches!(decode::<(u8, u8)>(&frame), Err(CodecError::Body { .. })));
        assert!(matches!(decode::<()>(&frame), Err(CodecError::Body { .. })));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_but_never_panic(bytes: Vec<u8>) {
            let _ = decode::<(u64, String, Vec<u8>)>(&bytes);
        }

        #[test]
        fn a_frame_of_anything_is_read_back(number: u64, text: String, bytes: Vec<u8>) {
            let value = (number, text, bytes);
            proptest::prop_assert_eq!(decode(&encode(&value).unwrap()), Ok(value));
        }

        #[test]
        fn a_frame_that_claims_more_than_it_has_is_short(cut in 0usize..40) {
            let frame = encode(&"a text that is longer than forty bytes, surely".to_owned()).unwrap();
            let short = matches!(decode::<String>(&frame[..cut]), Err(CodecError::Short { .. }));
            proptest::prop_assert!(short);
        }
    }
}
