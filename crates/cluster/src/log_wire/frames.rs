//! The contract's frames on a stream: one after the other, each checked before anything of it is believed.
//!
//! Absent on purpose: a buffer per connection beyond the frame that is being read.

use std::io;

use bincode::{Decode, Encode};
use statehouse_contract::{codec, limits::FRAME_BYTES_MAX};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Longest frame before the other side has said who it is.
pub(crate) const GREETING_BYTES_MAX: usize = 4 * 1024;

/// Reads one frame and returns what it holds; nothing where the stream ends between two frames.
///
/// # Errors
/// `InvalidData` for anything that is no frame of ours; the connection is of no use then.
pub(crate) async fn read<T: Decode<()>>(
    from: &mut (impl AsyncRead + Unpin),
    bytes_max: usize,
) -> io::Result<Option<T>> {
    let mut frame = vec![0; codec::HEADER_BYTES];
    let mut filled = 0;
    while filled < frame.len() {
        match from.read(&mut frame[filled..]).await? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
    }
    let length = codec::length(&frame).map_err(invalid)?;
    if length > bytes_max.min(FRAME_BYTES_MAX) {
        return Err(invalid(format!("a frame of {length} bytes, at most {bytes_max} are allowed")));
    }
    frame.resize(codec::HEADER_BYTES + length, 0);
    from.read_exact(&mut frame[codec::HEADER_BYTES..]).await?;
    codec::decode(&frame).map(Some).map_err(invalid)
}

/// Writes one frame and flushes it.
///
/// # Errors
/// What the connection says.
pub(crate) async fn write<T: Encode>(
    to: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> io::Result<()> {
    let frame = codec::encode(message).map_err(invalid)?;
    to.write_all(&frame).await?;
    to.flush().await
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_are_read_one_after_the_other_until_the_stream_ends() {
        let mut bytes = codec::encode(&7_u64).unwrap();
        bytes.extend(codec::encode(&8_u64).unwrap());
        let mut stream = bytes.as_slice();
        assert_eq!(read::<u64>(&mut stream, 64).await.unwrap(), Some(7));
        assert_eq!(read::<u64>(&mut stream, 64).await.unwrap(), Some(8));
        assert_eq!(read::<u64>(&mut stream, 64).await.unwrap(), None);
    }

    #[tokio::test]
    async fn garbage_a_huge_length_and_half_a_frame_end_the_connection() {
        let huge = [b'S', b'H', 1, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        let whole = codec::encode(&"a text that is longer than eight bytes".to_owned()).unwrap();
        let cases: [&[u8]; 4] =
            [b"GET / HTTP/1.1\r\n\r\n", &huge, &whole[..whole.len() - 1], &whole];
        for (case, mut bytes) in cases.into_iter().enumerate() {
            let found = read::<String>(&mut bytes, 8).await;
            assert!(found.is_err(), "case {case}: {found:?}");
        }
    }
}
