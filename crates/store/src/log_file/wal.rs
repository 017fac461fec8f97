//! A look at the write-ahead file before SQLite opens it.
//!
//! SQLite reads frames up to the first bad one and silently forgets the rest. For a log that is not
//! good enough: if frames of the same generation stand *behind* a bad one, then synced, acknowledged
//! writes may be among what would be forgotten. Such a file is doubtful and this replica must not vote
//! on it. A bad frame with nothing behind it is the torn end of a write that was never acknowledged.
//!
//! The format is SQLite's (`fileformat2.html`, section 4): a header of 32 bytes, frames of 24 bytes and
//! a page; big-endian fields; a running checksum over the first 8 bytes of each frame header and the
//! page; two salts that change whenever the file is begun again.

use std::{fs, io, path::Path};

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
const MAGIC: u32 = 0x377f_0682;

/// What the write-ahead file looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WalState {
    /// There is none, or nothing in it.
    Absent,
    /// So many frames, and nothing of the same generation behind them.
    Whole {
        /// The number of good frames.
        frames: u64,
    },
    /// A bad frame has frames of the same generation behind it. Frame 0 is the header.
    Doubtful {
        /// The first bad frame, from 1.
        frame: u64,
    },
}

/// Reads the write-ahead file at `path` and judges it.
pub(super) fn scan(path: &Path) -> io::Result<WalState> {
    match fs::read(path) {
        Ok(bytes) => Ok(judge(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(WalState::Absent),
        Err(error) => Err(error),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..at + 4).and_then(|slice| slice.try_into().ok());
    four.map_or(0, u32::from_be_bytes)
}

fn sum(bytes: &[u8], mut state: (u32, u32), big_endian: bool) -> (u32, u32) {
    let (pairs, _) = bytes.as_chunks::<8>();
    for [a, b, c, d, e, f, g, h] in pairs {
        let (first, second) = ([*a, *b, *c, *d], [*e, *f, *g, *h]);
        let (first, second) = if big_endian {
            (u32::from_be_bytes(first), u32::from_be_bytes(second))
        } else {
            (u32::from_le_bytes(first), u32::from_le_bytes(second))
        };
        state.0 = state.0.wrapping_add(first).wrapping_add(state.1);
        state.1 = state.1.wrapping_add(second).wrapping_add(state.0);
    }
    state
}

fn judge(bytes: &[u8]) -> WalState {
    let Some((header, body)) = bytes.split_at_checked(HEADER) else { return WalState::Absent };
    if header.iter().all(|byte| *byte == 0) && body.is_empty() {
        return WalState::Absent;
    }
    let magic = word(header, 0);
    let page_bytes = word(header, 8) as usize;
    let (sealed, _) = header.split_at(24);
    let checksum = sum(sealed, (0, 0), magic & 1 == 1);
    let is_good = magic & !1 == MAGIC
        && page_bytes.is_power_of_two()
        && (512..=65_536).contains(&page_bytes)
        && checksum == (word(header, 24), word(header, 28));
    if !is_good {
        // The header is synced before the first frame is written: with frames behind it, it was good.
        return if body.is_empty() { WalState::Absent } else { WalState::Doubtful { frame: 0 } };
    }
    judge_frames(body, (word(header, 16), word(header, 20)), page_bytes, checksum, magic & 1 == 1)
}

fn judge_frames(
    body: &[u8],
    salts: (u32, u32),
    page_bytes: usize,
    mut checksum: (u32, u32),
    big_endian: bool,
) -> WalState {
    let mut frames = 0;
    let mut bad = None;
    for frame in body.chunks_exact(FRAME_HEADER + page_bytes) {
        let (head, page) = frame.split_at(FRAME_HEADER);
        let is_current = (word(head, 8), word(head, 12)) == salts;
        match bad {
            None => {
                let (sealed, _) = head.split_at(8);
                checksum = sum(page, sum(sealed, checksum, big_endian), big_endian);
                if is_current && checksum == (word(head, 16), word(head, 20)) {
                    frames += 1;
                } else {
                    bad = Some(frames + 1);
                }
            }
            Some(frame) if is_current => return WalState::Doubtful { frame },
            Some(_) => {}
        }
    }
    WalState::Whole { frames }
}
