//! A power cut, tried on real processes under the shim: what was synced stays, what was not goes, sectors are whole.
//!
//! Absent on purpose: our own files. SQLite's, written by somebody else's program, are judge enough of a disk.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use super::*;
use crate::drill::shim::{Setting, Shim};

/// Runs a program under the shim until it has printed so many lines, kills it, and returns the lines.
fn killed_after(shim: &Shim, lines: usize, program: &str, folder: &Path) -> Vec<String> {
    let mut child = Command::new("python3")
        .args(["-c", program])
        .current_dir(folder)
        .envs(shim.environment())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let printed: Vec<String> = out.lines().take(lines).map(Result::unwrap).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    printed
}

fn shim(folder: &Path, record: bool) -> (Shim, PathBuf) {
    let data = folder.join("data");
    fs::create_dir_all(&data).unwrap();
    let shim = Shim::build(&folder.join("shim"), 1, &data).unwrap();
    shim.set(Setting::Record, i64::from(record)).unwrap();
    (shim, data)
}

/// Writes with Python's own calls: two synced writes, then one over them and one behind them that are not.
const WRITES: &str = "\
import os, time
file = os.open('file', os.O_RDWR | os.O_CREAT)
os.write(file, b'a' * 4096); os.fsync(file)
os.pwrite(file, b'b' * 2048, 1024)
os.pwrite(file, b'c' * 100, 4096)
print('written', flush=True)
time.sleep(600)";

#[test]
fn what_was_synced_survives_and_the_rest_is_as_before() {
    let folder = tempfile::tempdir().unwrap();
    let (shim, data) = shim(folder.path(), true);
    assert_eq!(killed_after(&shim, 1, WRITES, &data), ["written"]);
    assert_eq!(fs::read(data.join("file")).unwrap().len(), 4_196, "the kill alone took nothing");
    let done = cut(&shim.journal(), Loss::All, &mut Dice::new(1)).unwrap();
    assert_eq!(done, PowerLoss { lost: 2, kept: 0, torn: 0 });
    assert_eq!(fs::read(data.join("file")).unwrap(), vec![b'a'; 4_096]);
}

#[test]
fn a_torn_write_breaks_between_sectors_and_a_prefix_survives() {
    let folder = tempfile::tempdir().unwrap();
    let (shim, data) = shim(folder.path(), true);
    killed_after(&shim, 1, WRITES, &data);
    let written = fs::read(data.join("file")).unwrap();
    let mut seen = (0, 0);
    for seed in 0..40 {
        fs::write(data.join("file"), &written).unwrap();
        let done = cut(&shim.journal(), Loss::Torn, &mut Dice::new(seed)).unwrap();
        let now = fs::read(data.join("file")).unwrap();
        assert_eq!(done.lost + done.kept + done.torn, 2, "seed {seed}");
        assert_eq!(now.len(), 4_096, "seed {seed}: the last one is always lost");
        let torn = now.iter().filter(|byte| **byte == b'b').count();
        assert_eq!(torn % 512, 0, "seed {seed}");
        assert!(torn == 0 || now[1_024] == b'b', "seed {seed}: a prefix of the write");
        seen = (seen.0 + done.torn, seen.1 + done.kept);
    }
    assert!(seen.0 > 0 && seen.1 > 0, "{seen:?}");
}

const ROWS: &str = "\
import sqlite3, sys
rows = sqlite3.connect('rows.db', isolation_level=None)
rows.execute('pragma journal_mode=wal'); rows.execute('pragma synchronous=SYNC')
rows.execute('create table if not exists t (n integer primary key)')
n = 0
while True:
    n += 1
    rows.execute('insert into t values (?)', (n,))
    print(n, flush=True)";

/// How many rows are there after a power cut behind the 200th acknowledged one; fails where the file is damaged.
fn rows_after(sync: &str) -> i64 {
    let folder = tempfile::tempdir().unwrap();
    let (shim, data) = shim(folder.path(), true);
    let printed = killed_after(&shim, 200, &ROWS.replace("SYNC", sync), &data);
    assert_eq!(printed.len(), 200);
    cut(&shim.journal(), Loss::All, &mut Dice::new(1)).unwrap();
    let ask = "import sqlite3; rows = sqlite3.connect('rows.db'); \
               assert rows.execute('pragma integrity_check').fetchone() == ('ok',); \
               print(rows.execute('select count(*) from t').fetchone()[0] if \
               rows.execute('select count(*) from sqlite_master').fetchone()[0] else 0)";
    let told = Command::new("python3").args(["-c", ask]).current_dir(&data).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    String::from_utf8_lossy(&told.stdout).trim().parse().unwrap()
}

#[test]
fn a_database_that_syncs_keeps_every_acknowledged_row_and_one_that_does_not_loses_some() {
    let kept = rows_after("full");
    assert!(kept >= 200, "{kept}");
    let lost = rows_after("off");
    assert!(lost < 200, "{lost}");
}

#[test]
fn syncs_fail_and_the_clock_moves_when_they_are_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let (shim, data) = shim(folder.path(), false);
    shim.set(Setting::SyncError, 1).unwrap();
    shim.set(Setting::ClockMs, -3_600_000).unwrap();
    let program = "\
import os, time, datetime
file = os.open('file', os.O_RDWR | os.O_CREAT)
try: os.fsync(file)
except OSError as error: print(error.errno, flush=True)
print(time.time(), flush=True)
time.sleep(600)";
    let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let printed = killed_after(&shim, 2, program, &data);
    assert_eq!(printed[0], "5", "EIO");
    let told: f64 = printed[1].parse().unwrap();
    let behind = before.as_secs_f64() - told;
    assert!((3_500.0..3_601.0).contains(&behind), "{behind} s behind");
}
