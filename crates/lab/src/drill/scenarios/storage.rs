//! Disks that forget, are slow, fail or are full, and clocks that jump, under a real node.
//!
//! A shim stands between the node and its system calls (`shim/shim.c`): the binary is the one that users run. A full disk
//! is a small file system in memory, made for one node, because room is asked of the file system itself.
//!
//! Deliberately absent: faults on two nodes at once that need a majority of honest disks. A power cut is none of these: it
//! takes what was never promised, on all nodes.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use crate::drill::{
    DrillError,
    power::{self, Loss, PowerLoss},
    scenario::{HARSH, NO_BUDGET, Row, Scenario, Set},
    shim::Setting,
    stage::Stage,
    view::led_by,
};

const NIGHTLY: &[Set] = &[Set::Nightly];
const BOTH: &[Set] = &[Set::Short, Set::Nightly];
/// Serving ten seconds after the start of a cluster that lost its power; the drill's schedule adds the start itself.
const RECOVERED: Row = Row { p99_ms: Some(15_000.0), whole_ms: Some(30_000.0), ..NO_BUDGET };
const FAILOVER: Row = Row {
    median_ms: Some(1_000.0),
    p99_ms: Some(2_000.0),
    others_ms: Some(1_000.0),
    whole_ms: Some(30_000.0),
    again_ms: None,
};
/// How long leadership may stay on a node whose disk is slow.
const MOVES_WITHIN: Duration = Duration::from_secs(10);
const HOUR_MS: i64 = 3_600_000;

pub(crate) const POWER_LOSS: Scenario = Scenario {
    name: "power-loss",
    about: "all nodes lose their power at once: every write that was not synced is gone",
    expected: "they come back alone with everything that was acknowledged",
    row: RECOVERED,
    sets: BOTH,
    times: 3,
    arguments: &[],
    demands: HARSH,
    is_shimmed: true,
    play: |stage| powerless(stage, Loss::All),
};

pub(crate) const TORN_WRITES: Scenario = Scenario {
    name: "torn-writes",
    about: "all nodes lose their power at once: writes that were not synced survive in part",
    expected: "a torn end is cut off; nothing that was acknowledged stood there",
    row: RECOVERED,
    sets: NIGHTLY,
    times: 5,
    arguments: &[],
    demands: HARSH,
    is_shimmed: true,
    play: |stage| powerless(stage, Loss::Torn),
};

fn powerless(stage: &mut Stage<'_>, loss: Loss) -> Result<(), DrillError> {
    for turn in 1..=stage.times {
        let shards: Vec<u32> = stage.leads()?.keys().copied().collect();
        let fault = format!("power cut {turn} of {}", stage.times);
        let nodes = stage.cluster.numbers();
        let begun = stage.begins(&fault, &nodes, &shards);
        stage.cluster.kill_all(&nodes)?;
        let mut total = PowerLoss::default();
        for node in &nodes {
            let journal = stage.shim(*node)?.journal();
            let mut dice = stage.dice.split();
            let lost = power::cut(&journal, loss, &mut dice)?;
            total.lost += lost.lost;
            total.kept += lost.kept;
            total.torn += lost.torn;
        }
        let PowerLoss { lost, kept, torn } = total;
        let told =
            format!("{fault}: {lost} writes lost, {torn} torn, {kept} kept though not synced");
        stage.say(&told);
        stage.notes.push(told);
        nodes.iter().try_for_each(|node| stage.cluster.start(*node))?;
        let _ = stage.cluster.balanced()?;
        stage.ends(begun);
        stage.more(200)?;
    }
    Ok(())
}

pub(crate) const SLOW_SYNC: Scenario = Scenario {
    name: "slow-sync",
    about: "every sync of a node that leads takes 40, 200, then 1,000 ms longer",
    expected: "leadership moves away from a disk that is too slow to lead",
    row: Row { whole_ms: Some(30_000.0), ..NO_BUDGET },
    sets: NIGHTLY,
    times: 1,
    arguments: &[],
    demands: HARSH,
    is_shimmed: true,
    play: |stage| {
        for delay in [40, 200, 1_000] {
            let (node, led) = stage.some_leader()?;
            let begun = stage.begins(
                &format!("syncs of node {node} take {delay} ms longer"),
                &[node],
                &led,
            );
            stage.shim(node)?.set(Setting::SyncDelayMs, delay)?;
            let began = Instant::now();
            let mut moved = None;
            while moved.is_none() && began.elapsed() < MOVES_WITHIN {
                stage.run_on(Duration::from_millis(100));
                let is_free = stage.seen().is_some_and(|leads| led_by(&leads, node).is_empty());
                moved = is_free.then(|| began.elapsed());
            }
            stage.run_on(Duration::from_secs(3));
            stage.shim(node)?.set(Setting::SyncDelayMs, 0)?;
            let _ = stage.cluster.balanced()?;
            stage.ends(begun);
            let told = moved.map_or_else(
                || format!("not within {MOVES_WITHIN:?}"),
                |took| format!("after {:.1} s", took.as_secs_f64()),
            );
            let (name, budget) = (format!("leadership leaves a disk {delay} ms slower"), "10 s");
            // A disk that is a little slow still leads well enough: told, not demanded.
            if delay >= 200 {
                stage.check(&name, budget, told, moved.is_some());
            } else {
                stage.notes.push(format!("{name}: {told}"));
            }
            stage.more(100)?;
        }
        Ok(())
    },
};

pub(crate) const SYNC_ERROR: Scenario = Scenario {
    name: "sync-error",
    about: "syncs of a node that leads fail",
    expected: "its process ends at once, as if killed",
    row: FAILOVER,
    sets: NIGHTLY,
    times: 3,
    arguments: &[],
    demands: HARSH,
    is_shimmed: true,
    play: |stage| {
        for _ in 0..stage.times {
            let (node, led) = stage.some_leader()?;
            let begun = stage.begins(
                &format!("syncs of node {node} fail; it leads {led:?}"),
                &[node],
                &led,
            );
            stage.shim(node)?.set(Setting::SyncError, 1)?;
            stage.cluster.node(node)?.gone()?;
            stage.shim(node)?.set(Setting::SyncError, 0)?;
            stage.more(50)?;
            stage.back(node)?;
            stage.ends(begun);
            stage.more(100)?;
        }
        Ok(())
    },
};

pub(crate) const DISK_FULL: Scenario = Scenario {
    name: "disk-full",
    about: "the disk of a node that leads fills up, and is emptied again",
    expected: "it hands leadership over or refuses; it serves reads, and heals by itself",
    row: Row { p99_ms: Some(10_000.0), whole_ms: Some(10_000.0), ..NO_BUDGET },
    sets: NIGHTLY,
    times: 1,
    arguments: &[],
    demands: HARSH,
    is_shimmed: false,
    play: |stage| {
        let node = stage.some_leader()?.0;
        let disk = SmallDisk::under(stage, node)?;
        for _ in 0..stage.times {
            let led = led_by(&stage.leads()?, node);
            let begun = stage.begins(
                &format!("the disk of node {node} is full; it leads {led:?}"),
                &[node],
                &led,
            );
            let filler = disk.0.join("filler");
            let file = fs::File::create(&filler);
            let mut file = file.map_err(|source| DrillError::file(&filler, source))?;
            while file.write_all(&[1; 1 << 20]).is_ok() {}
            drop(file);
            stage.run_on(Duration::from_secs(8));
            let stale = "GET /v1/tenants/default/instances/probe-0-1?consistency=stale";
            let read = stage.cluster.node(node)?.ask(stale, "").map_err(DrillError::Node)?;
            stage.check("a read on the full node", "200", read.0.to_string(), read.0 == 200);
            fs::remove_file(&filler).map_err(|source| DrillError::file(&filler, source))?;
            let healed = Instant::now();
            let _ = stage.cluster.whole()?;
            let took = healed.elapsed().as_secs_f64();
            stage.check("whole after room is back", "10 s", format!("{took:.1} s"), took <= 10.0);
            stage.ends(begun);
            let _ = stage.cluster.balanced()?;
            stage.more(100)?;
        }
        // Back from the small disk to where it came from, before that goes.
        stage.cluster.node(node)?.end("TERM")?;
        disk.leave()?;
        stage.back(node)
    },
};

/// A small file system in memory under one node's directory.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn under(stage: &mut Stage<'_>, node: u32) -> Result<Self, DrillError> {
        stage.cluster.node(node)?.end("TERM")?;
        let at = stage.cluster.node(node)?.directory().to_owned();
        let aside = aside(&at);
        fs::rename(&at, &aside).map_err(|source| DrillError::file(&at, source))?;
        fs::create_dir(&at).map_err(|source| DrillError::file(&at, source))?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=512m", "tmpfs"])
            .arg(&at)
            .output();
        if !mounted.is_ok_and(|done| done.status.success()) {
            let _ = fs::remove_dir(&at);
            let _ = fs::rename(&aside, &at);
            stage.back(node)?;
            return Err(DrillError::NotHere(
                "this process may not mount a small file system".to_owned(),
            ));
        }
        let disk = Self(at.clone());
        copy(&aside, &at)?;
        stage.back(node)?;
        Ok(disk)
    }

    /// Copies what is on it back to where it came from, and takes it away.
    fn leave(self) -> Result<(), DrillError> {
        let (at, aside) = (self.0.clone(), aside(&self.0));
        fs::remove_dir_all(&aside).map_err(|source| DrillError::file(&aside, source))?;
        fs::create_dir(&aside).map_err(|source| DrillError::file(&aside, source))?;
        copy(&at, &aside)?;
        drop(self);
        fs::remove_dir(&at)
            .and_then(|()| fs::rename(&aside, &at))
            .map_err(|source| DrillError::file(&at, source))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazy: the node's files may be open for a moment more.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn aside(at: &Path) -> PathBuf {
    at.with_extension("aside")
}

fn copy(from: &Path, to: &Path) -> Result<(), DrillError> {
    let inside = from.join(".");
    let copied = Command::new("cp").arg("-a").arg(&inside).arg(to).status();
    match copied {
        Ok(status) if status.success() => Ok(()),
        told => Err(DrillError::Node(format!("{} cannot be copied: {told:?}", from.display()))),
    }
}

pub(crate) const CLOCK_AHEAD: Scenario = Scenario {
    name: "clock-ahead",
    about: "the wall clock of a node that leads jumps an hour ahead",
    expected: "no timer fires early; started again so, the node leads nothing until its clock is right",
    row: Row {
        others_ms: Some(5_000.0),
        p99_ms: Some(5_000.0),
        whole_ms: Some(30_000.0),
        ..NO_BUDGET
    },
    sets: NIGHTLY,
    times: 1,
    arguments: &[],
    demands: HARSH_CLOCK,
    is_shimmed: true,
    play: |stage| clock(stage, HOUR_MS),
};

pub(crate) const CLOCK_BEHIND: Scenario = Scenario {
    name: "clock-behind",
    about: "the wall clock of a node that leads jumps an hour back",
    expected: "timers fire in time; started again so, the node leads nothing until its clock is right",
    row: Row {
        others_ms: Some(5_000.0),
        p99_ms: Some(5_000.0),
        whole_ms: Some(30_000.0),
        ..NO_BUDGET
    },
    sets: NIGHTLY,
    times: 1,
    arguments: &[],
    demands: HARSH_CLOCK,
    is_shimmed: true,
    play: |stage| clock(stage, -HOUR_MS),
};

/// A clock changes no leader by itself.
const HARSH_CLOCK: statehouse_judge::Demands =
    statehouse_judge::Demands { leader_changes: 0, ..HARSH };

fn clock(stage: &mut Stage<'_>, ms: i64) -> Result<(), DrillError> {
    for _ in 0..stage.times {
        let (node, led) = stage.some_leader()?;
        let begun =
            stage.begins(&format!("the clock of node {node} moves by {ms} ms"), &[node], &led);
        stage.shim(node)?.set(Setting::ClockMs, ms)?;
        stage.run_on(Duration::from_secs(8));
        // It is killed and started again with the wrong clock, too; it leads nothing then until its clock is right.
        stage.cluster.kill(node)?;
        stage.more(50)?;
        stage.cluster.start(node)?;
        let _ = stage.cluster.whole()?;
        stage.run_on(Duration::from_secs(5));
        stage.shim(node)?.set(Setting::ClockMs, 0)?;
        let _ = stage.cluster.balanced()?;
        stage.ends(begun);
        stage.run_on(Duration::from_secs(4));
    }
    Ok(())
}
