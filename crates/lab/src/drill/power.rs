//! A power cut, played on the files of a killed process: what no sync had promised may be gone.
//!
//! The shim's journal tells each write since the last sync of its file, with the bytes that stood there before. From the
//! end of each file's list a seeded number of writes is taken back, so that a prefix survives; the first that is lost may
//! have reached the disk in part, sector by sector. Files do not know of each other: one may have kept what another lost.
//!
//! Deliberately absent: writes of one file that survive one they came after. A disk may do that, too; SQLite's checksums
//! and our own are meant for it, and the flipped bits of `damage.rs` test them.
//!
//! Invariant: what was synced is never touched.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::{DrillError, dice::Dice};

/// What a disk writes as a whole.
const SECTOR: u64 = 512;
/// Words of a record's head.
const HEAD: usize = 6 * 8;

/// How much is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Every write that was not synced.
    All,
    /// The end of them, and the first lost one in part.
    Torn,
}

/// What a power cut did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PowerLoss {
    /// Writes that were taken back.
    pub(crate) lost: u64,
    /// Writes that were not synced and survived.
    pub(crate) kept: u64,
    /// Writes of which a part survived.
    pub(crate) torn: u64,
}

/// A write or a truncation that no sync has promised.
#[derive(Clone, Debug)]
struct Write {
    at: u64,
    length_before: u64,
    before: Vec<u8>,
}

/// Takes back what a killed process had not synced.
pub(crate) fn cut(journal: &Path, loss: Loss, dice: &mut Dice) -> Result<PowerLoss, DrillError> {
    let bytes = fs::read(journal).map_err(|source| DrillError::file(journal, source))?;
    let mut done = PowerLoss::default();
    for (path, writes) in owed(&bytes) {
        // SQLite's index is a mapped file that no crash keeps.
        let index = PathBuf::from(format!("{}-shm", path.display()));
        let _ = fs::remove_file(index);
        if !path.exists() {
            continue;
        }
        undo(&path, &writes, loss, dice, &mut done)
            .map_err(|source| DrillError::file(&path, source))?;
    }
    Ok(done)
}

fn undo(
    path: &Path,
    writes: &[Write],
    loss: Loss,
    dice: &mut Dice,
    done: &mut PowerLoss,
) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let kept = if loss == Loss::All { 0 } else { dice.below(writes.len() as u64) };
    let kept = usize::try_from(kept).unwrap_or(0);
    for (place, write) in writes.iter().enumerate().rev() {
        if place < kept {
            done.kept += 1;
            continue;
        }
        let sectors = (write.before.len() as u64).div_ceil(SECTOR);
        let is_torn = loss == Loss::Torn && place == kept && sectors > 1 && dice.percent(50);
        // Of a torn write the first sectors stay as they were written.
        let spared = if is_torn { dice.between(1, sectors - 1) * SECTOR } else { 0 };
        put_back(&file, write, spared)?;
        *(if is_torn { &mut done.torn } else { &mut done.lost }) += 1;
    }
    file.sync_all()
}

fn put_back(file: &File, write: &Write, spared: u64) -> io::Result<()> {
    let from = usize::try_from(spared).unwrap_or(usize::MAX);
    if let Some(before) = write.before.get(from..) {
        file.write_all_at(before, write.at + spared)?;
    }
    // A torn write within the old length has not changed it; what lay beyond was never there.
    file.set_len(write.length_before)
}

/// Reads a journal: by file, the writes that no sync has promised. A record that is cut off at the end was not followed by
/// its write.
fn owed(bytes: &[u8]) -> BTreeMap<PathBuf, Vec<Write>> {
    let mut names: BTreeMap<u64, PathBuf> = BTreeMap::new();
    let mut writes: BTreeMap<u64, Vec<(u64, Write)>> = BTreeMap::new();
    let mut rest = bytes;
    while let Some((head, after)) = rest.split_at_checked(HEAD) {
        let words: Vec<u64> = head
            .chunks_exact(8)
            .map(|word| u64::from_ne_bytes(word.try_into().unwrap_or_default()))
            .collect();
        let [kind, file, one, two, three, four] = words[..] else { break };
        let kind = u8::try_from(kind).unwrap_or(0);
        let size = match kind {
            b'N' => one,
            b'W' | b'T' => four,
            _ => 0,
        };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let Some((body, after)) = after.split_at_checked(size) else { break };
        rest = after;
        match kind {
            b'N' => {
                let name = String::from_utf8_lossy(body).into_owned();
                names.insert(file, name.into());
            }
            b'W' | b'T' => {
                let write = Write { at: two, length_before: three, before: body.to_vec() };
                writes.entry(file).or_default().push((one, write));
            }
            // Synced, or removed: nothing up to here is owed.
            _ => writes.entry(file).or_default().retain(|(seq, _)| *seq > one),
        }
    }
    let owed = writes.into_iter().filter(|(_, writes)| !writes.is_empty());
    owed.filter_map(|(file, writes)| {
        Some((names.get(&file)?.clone(), writes.into_iter().map(|(_, write)| write).collect()))
    })
    .collect()
}

#[cfg(test)]
mod tests;
