//! Data that is lost or damaged on one node while the others serve.
//!
//! Bytes are changed while the node is down, at places that the seed chooses, as a disk would: nobody is told. What must
//! not happen is that a wrong byte is applied, served or sent on; whether the node starts, sets a replica aside or refuses
//! with a name is its choice. A node that refuses is given its place anew, as the message tells an operator to.
//!
//! Deliberately absent: damage on a majority. Nothing could be promised then.

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::drill::{
    DrillError,
    dice::Dice,
    processes::{NODES, others},
    scenario::{HARSH, MILD, NO_BUDGET, Row, Scenario, Set},
    stage::Stage,
    view::led_by,
};

const NIGHTLY: &[Set] = &[Set::Nightly];
/// Whole again within a minute: what a drill holds is far below a gibibyte.
const REBUILT: Row = Row { others_ms: Some(2_000.0), whole_ms: Some(60_000.0), ..NO_BUDGET };
/// Bits that are flipped in a file.
const FLIPS: u64 = 24;
/// How long a damaged node may take to say that it does not start.
const REFUSED_WITHIN: Duration = Duration::from_secs(10);

pub(crate) const LOST_DIRECTORY: Scenario = Scenario {
    name: "lost-directory",
    about: "the data directory of one node is deleted while it is down",
    expected: "it is refused until it takes its own place anew, then it is filled again",
    row: REBUILT,
    sets: NIGHTLY,
    times: 1,
    arguments: &[],
    demands: HARSH,
    is_shimmed: false,
    play: |stage| {
        for _ in 0..stage.times {
            let (node, led) = stage.some_leader()?;
            let begun = stage.begins(&format!("node {node} loses its data"), &[node], &led);
            stage.cluster.kill(node)?;
            replace(stage, node)?;
            stage.ends(begun);
            stage.more(100)?;
        }
        Ok(())
    },
};

pub(crate) const FLIPPED_STATE: Scenario = Scenario {
    name: "flipped-bits-state",
    about: "bits flip in the state files of one node while it is down",
    expected: "the replica is set aside and rebuilt, or the node refuses to start; no wrong byte is served",
    row: REBUILT,
    sets: NIGHTLY,
    times: 2,
    arguments: &[],
    demands: HARSH,
    is_shimmed: false,
    play: |stage| damaged(stage, "state-"),
};

pub(crate) const FLIPPED_LOG: Scenario = Scenario {
    name: "flipped-bits-log",
    about: "bits flip in the log file of one node while it is down",
    expected: "the node refuses to start and names the place, or the bits held nothing that counts",
    row: REBUILT,
    sets: NIGHTLY,
    times: 2,
    arguments: &[],
    demands: HARSH,
    is_shimmed: false,
    play: |stage| damaged(stage, "log.db"),
};

pub(crate) const FLIPPED_SNAPSHOT: Scenario = Scenario {
    name: "flipped-bits-snapshot",
    about: "bits flip in the snapshots of one node while it is down, which then leads and is asked for a copy",
    expected: "a damaged snapshot is not sent or not taken; the follower is filled all the same",
    row: REBUILT,
    sets: NIGHTLY,
    times: 1,
    arguments: &[],
    demands: HARSH,
    is_shimmed: false,
    play: |stage| damaged(stage, "snapshots"),
};

pub(crate) const SNAPSHOT_INSTALL: Scenario = Scenario {
    name: "snapshot-install",
    about: "a node is away for so long that the others have forgotten what it missed",
    expected: "it is given a copy of the rows, receipts included, and goes on from there",
    row: REBUILT,
    sets: NIGHTLY,
    times: 1,
    arguments: &[],
    demands: MILD,
    is_shimmed: false,
    play: |stage| {
        // Copies are made often from here on, by every node.
        for node in 1..=NODES {
            stage.cluster.set_variable(node, "STATEHOUSE__CLUSTER__SNAPSHOT_EVERY", "100");
            stage.cluster.node(node)?.end("TERM")?;
            stage.back(node)?;
        }
        for _ in 0..stage.times {
            let (node, led) = stage.some_leader()?;
            let begun = stage.begins(&format!("node {node} is away for long"), &[node], &led);
            stage.cluster.kill(node)?;
            let other = others(node).first().copied().unwrap_or(1);
            let positions = |stage: &mut Stage<'_>, what: &str| -> Result<Vec<u64>, DrillError> {
                let view = stage.cluster.node(other)?.view().map_err(DrillError::Node)?;
                let shards = view["shards"].as_array().cloned().unwrap_or_default();
                Ok(shards.iter().filter_map(|shard| shard[what].as_u64()).collect())
            };
            let gone = positions(stage, "applied")?;
            let mut now = Vec::new();
            // Two copies later the first of them is what the log begins with.
            while !(now.len() == gone.len()
                && now.iter().zip(&gone).any(|(now, gone)| *now > gone + 200))
            {
                stage.more(100)?;
                now = positions(stage, "snapshot")?;
            }
            stage.back(node)?;
            stage.ends(begun);
            let lines = stage.cluster.node(node)?.lines();
            let copies = lines.matches("copy of the leader's rows").count();
            stage.check("shards given a copy", "at least 1", copies.to_string(), copies > 0);
            stage.more(100)?;
            // Whoever has the copy must answer from its receipts: it leads now and then.
            for shard in 0..4 {
                let asked = format!("POST /v1/cluster/shards/{shard}/transfer");
                let to = format!(r#"{{"to":"n{node}.1"}}"#);
                let told = stage.cluster.node(other)?.ask(&asked, &to).map_err(DrillError::Node)?;
                stage.say(&format!("shard {shard} is handed to node {node}: {}", told.0));
            }
            stage.more(200)?;
        }
        Ok(())
    },
};

/// Damages files of a node that is down, seeded, and sees that nothing comes of it.
fn damaged(stage: &mut Stage<'_>, what: &str) -> Result<(), DrillError> {
    for _ in 0..stage.times {
        let (node, led) = stage.some_leader()?;
        let directory = stage.cluster.node(node)?.directory().to_owned();
        let begun = stage.begins(&format!("node {node}: bits flip in {what}"), &[node], &led);
        stage.cluster.kill(node)?;
        let mut flips = 0;
        for file in files(&directory, what)? {
            flips += flip(&file, &mut stage.dice)?;
        }
        stage.say(&format!("{flips} bits flipped"));
        stage.cluster.start(node)?;
        let is_up = stage.cluster.node(node)?.ready(REFUSED_WITHIN).is_ok();
        let told = if is_up {
            "it started".to_owned()
        } else if stage.cluster.node(node)?.has_died() {
            let lines = stage.cluster.node(node)?.lines();
            stage.cluster.node(node)?.gone()?;
            let last = lines.lines().rev().find(|line| line.contains("error")).unwrap_or_default();
            let said = format!("it refused to start: {last}");
            stage.say(&said);
            replace(stage, node)?;
            said
        } else {
            "it started slowly".to_owned()
        };
        let _ = stage.cluster.whole()?;
        stage.ends(begun);
        let short: String = told.chars().take(200).collect();
        stage.notes.push(format!("node {node}, {flips} bits in {what}: {short}"));
        let _ = stage.cluster.balanced()?;
        stage.more(150)?;
    }
    Ok(())
}

/// Gives a node that lost its data its own place anew, as an operator would, and waits until it is whole.
fn replace(stage: &mut Stage<'_>, node: u32) -> Result<(), DrillError> {
    let directory = stage.cluster.node(node)?.directory().to_owned();
    let settings = directory.join("node.toml");
    let kept = stage.cluster.folder().join(format!("node-{node}.toml"));
    let text = fs::read_to_string(&settings);
    let text = text.map_err(|source| DrillError::file(&settings, source))?;
    // The node that made the cluster has nobody to ask but itself: it is told where the others are.
    let seeds = stage.cluster.seeds(node)?;
    let line = |line: &str| match line.split('=').next().unwrap_or_default().trim() {
        "cluster.seeds" => format!("cluster.seeds = \"{seeds}\""),
        _ => line.to_owned(),
    };
    let text: Vec<String> = text.lines().map(line).collect();
    fs::write(&kept, text.join("\n")).map_err(|source| DrillError::file(&kept, source))?;
    fs::remove_dir_all(&directory).map_err(|source| DrillError::file(&directory, source))?;
    let path = kept.display().to_string();
    let (code, told) = stage.cluster.run(&["serve", "--config", &path])?;
    let is_refused = code != 0;
    stage.check("an empty directory is refused", "an error", told, is_refused);
    let (code, told) = stage.cluster.run(&["cluster", "join", "--replace", "--config", &path])?;
    if code != 0 {
        return Err(DrillError::Node(format!("node {node} is not taken back: {told}")));
    }
    fs::copy(&kept, &settings).map_err(|source| DrillError::file(&settings, source))?;
    stage.back(node)?;
    let leads = stage.leads()?;
    stage.say(&format!("node {node} is back and leads {:?}", led_by(&leads, node)));
    Ok(())
}

/// Returns the files whose names begin so, or that stand in a directory of that name.
fn files(directory: &Path, what: &str) -> Result<Vec<PathBuf>, DrillError> {
    let inner = directory.join(what);
    let (folder, stem) = if inner.is_dir() { (inner, "") } else { (directory.to_owned(), what) };
    let listed = fs::read_dir(&folder).map_err(|source| DrillError::file(&folder, source))?;
    let mut found: Vec<PathBuf> = listed.filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.is_file() && name.starts_with(stem) && !name.ends_with("-shm")
    });
    found.sort();
    Ok(found)
}

/// Flips seeded bits of a file; returns how many.
fn flip(path: &Path, dice: &mut Dice) -> Result<u64, DrillError> {
    let failed = |source| DrillError::file(path, source);
    let mut file = fs::OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    if length == 0 {
        return Ok(0);
    }
    for _ in 0..FLIPS {
        let (at, bit) = (dice.below(length), dice.below(8));
        let mut byte = [0];
        file.seek(SeekFrom::Start(at)).map_err(failed)?;
        file.read_exact(&mut byte).map_err(failed)?;
        file.seek(SeekFrom::Start(at)).map_err(failed)?;
        file.write_all(&[byte[0] ^ (1 << bit)]).map_err(failed)?;
    }
    Ok(FLIPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_flip_where_the_seed_says_and_an_empty_file_stays_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state-0.db");
        let flipped = |seed| {
            fs::write(&path, [0_u8; 4_096]).unwrap();
            flip(&path, &mut Dice::new(seed)).unwrap();
            fs::read(&path).unwrap()
        };
        assert_eq!(flipped(3), flipped(3));
        assert_ne!(flipped(3), flipped(4));
        fs::write(&path, []).unwrap();
        assert_eq!(flip(&path, &mut Dice::new(1)).unwrap(), 0);
        fs::write(folder.path().join("state-0.db-shm"), []).unwrap();
        assert_eq!(files(folder.path(), "state-").unwrap(), [path]);
    }
}
