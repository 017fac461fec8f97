//! Faults made on purpose: a direction of a link that is cut or slow, a clock that is wrong.
//!
//! The lab and the scenarios cut a pair of nodes in one direction without touching the machine's network. The faults
//! come from a file such as `{"to": {"2": "cut"}, "from": {"3": {"delay_ms": 40}}}`; `to` is what this node sends, and
//! the number is the peer's. A cut stalls: nothing is refused or reset, just as with a cable that was pulled. With
//! `"clock_ms": 3600000` this node's own clock is an hour ahead, or behind where it is negative.
//!
//! Deliberately absent: faults without a file (a node started without one cannot be given any), and loss of single
//! bytes, which TCP would hide. While no fault is set this costs one relaxed load for a read or write.

use std::{
    collections::BTreeMap,
    fs,
    future::poll_fn,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use serde::Deserialize;
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep},
};
use tracing::{info, warn};

/// How often the file is read.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A file above this size is no list of faults.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// The longest delay; more is a cut.
const DELAY_MS_MAX: u64 = 60_000;
/// The most by which a clock is put wrong: a year.
const CLOCK_MS_MAX: u64 = 366 * 86_400_000;

/// Which way bytes go, seen from this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From this node to the peer.
    To,
    /// From the peer to this node.
    From,
}

/// What is wrong with one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    /// Nothing passes until it is healed.
    Cut,
    /// Every chunk passes this many milliseconds late.
    DelayMs(u64),
    /// Every chunk passes late by chance, as over a long line that loses some.
    Rough(Rough),
}

/// A line that is long and loses packets. TCP hides a loss and delivers late: a lost chunk waits for its retransmission,
/// 200 ms, twice that if it is lost again, and so on; whatever follows waits behind it. That is a model of what a lost
/// packet costs, not a lost packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Rough {
    /// How late a chunk passes at least.
    pub delay_ms: u64,
    /// By how much more at most.
    pub jitter_ms: u64,
    /// How many of a hundred chunks are lost.
    pub loss_percent: u64,
    /// What chance begins with.
    pub seed: u64,
}

/// What a fault means for the chunk that is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passage {
    /// It does not pass until the faults change.
    None,
    /// It passes so many milliseconds late.
    Late(u64),
}

/// The first wait for a retransmission, and how often it is doubled at most.
const RETRANSMIT_MS: u64 = 200;
const LOSSES_MAX: u32 = 5;

impl Rough {
    /// Returns how late the `turn`-th chunk passes.
    fn late_ms(self, turn: u64) -> u64 {
        let mut drawn = self.seed ^ turn.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The mixer of SplitMix64, as in the lab's dice.
        let mut below = |bound: u64| {
            drawn = drawn.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed ^ (mixed >> 31)).checked_rem(bound).unwrap_or(0)
        };
        let mut late = self.delay_ms + below(self.jitter_ms + 1);
        for lost in 0..LOSSES_MAX {
            if below(100) >= self.loss_percent {
                break;
            }
            late += RETRANSMIT_MS << lost;
        }
        late
    }
}

/// All faults of this node: of its links, by the peer's number, and of its clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FaultPlan {
    /// What this node sends.
    pub to: BTreeMap<u32, Fault>,
    /// What this node hears.
    pub from: BTreeMap<u32, Fault>,
    /// By how many milliseconds its own clock is ahead.
    pub clock_ms: i64,
}

impl FaultPlan {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let plan: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let too_slow = |fault: &Fault| match fault {
            Fault::Cut => false,
            Fault::DelayMs(ms) => *ms > DELAY_MS_MAX,
            Fault::Rough(rough) => rough.delay_ms.max(rough.jitter_ms) > DELAY_MS_MAX,
        };
        if plan.to.values().chain(plan.from.values()).any(too_slow) {
            return Err(format!("a delay is above {DELAY_MS_MAX} ms; use a cut"));
        }
        if plan.clock_ms.unsigned_abs() > CLOCK_MS_MAX {
            return Err(format!("a clock is more than {CLOCK_MS_MAX} ms off"));
        }
        Ok(plan)
    }

    fn get(&self, direction: Direction, peer: u32) -> Option<Fault> {
        let side = match direction {
            Direction::To => &self.to,
            Direction::From => &self.from,
        };
        side.get(&peer).copied()
    }

    fn spares_links(&self) -> bool {
        self.to.is_empty() && self.from.is_empty()
    }
}

#[derive(Debug, Default)]
struct Inside {
    plan: FaultPlan,
    // Whoever stalls in a cut; all are woken by every change and look again.
    stalled: Vec<Waker>,
}

/// The faults that hold now.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    any: AtomicBool,
    clock_ms: AtomicI64,
    // Chunks that have passed over rough lines; each is late by its own chance.
    turns: AtomicU64,
    inside: Mutex<Inside>,
}

impl Faults {
    /// Returns whether any link has a fault; everything else is asked only then.
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Returns by how many milliseconds this node's own clock is ahead; negative when it is behind.
    pub(crate) fn clock_ms(&self) -> i64 {
        self.clock_ms.load(Ordering::Relaxed)
    }

    /// Replaces all faults and wakes whoever stalls.
    pub(crate) fn set(&self, plan: FaultPlan) {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        self.any.store(!plan.spares_links(), Ordering::Relaxed);
        self.clock_ms.store(plan.clock_ms, Ordering::Relaxed);
        inside.plan = plan;
        let stalled = std::mem::take(&mut inside.stalled);
        drop(inside);
        stalled.into_iter().for_each(Waker::wake);
    }

    /// Returns the fault of one direction; at a cut the task is woken by the next change.
    pub(crate) fn look(
        &self,
        direction: Direction,
        peer: u32,
        context: &mut Context<'_>,
    ) -> Option<Passage> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        match inside.plan.get(direction, peer)? {
            Fault::Cut => {
                if !inside.stalled.iter().any(|waker| waker.will_wake(context.waker())) {
                    inside.stalled.push(context.waker().clone());
                }
                Some(Passage::None)
            }
            Fault::DelayMs(ms) => Some(Passage::Late(ms)),
            Fault::Rough(rough) => {
                let turn = self.turns.fetch_add(1, Ordering::Relaxed);
                Some(Passage::Late(rough.late_ms(turn)))
            }
        }
    }

    /// Waits until a connection to this peer could be made: both directions are open, and late by their delays.
    pub(crate) async fn passage(&self, peer: u32) {
        if !self.any() {
            return;
        }
        let mut late = 0;
        for direction in [Direction::To, Direction::From] {
            let fault = poll_fn(|context| match self.look(direction, peer, context) {
                Some(Passage::None) => Poll::Pending,
                other => Poll::Ready(other),
            });
            if let Some(Passage::Late(ms)) = fault.await {
                late += ms;
            }
        }
        sleep(Duration::from_millis(late)).await;
    }

    /// Follows a file from now on, until what is returned is dropped. No file means no faults. What it says at this moment
    /// holds when this returns: a node begins with its faults.
    pub(crate) fn follow(self: Arc<Self>, path: PathBuf) -> FaultsFile {
        // Whether a text is good or bad is said once, not fifty times a second.
        let mut seen = None;
        self.look_at(&path, &mut seen);
        FaultsFile(tokio::spawn(async move {
            let mut tick = interval(LOOK_EVERY);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                self.look_at(&path, &mut seen);
            }
        }))
    }

    fn look_at(&self, path: &Path, seen: &mut Option<Text>) {
        // A few bytes of a local file that only a test writes: not worth a thread.
        let text = read(path);
        if seen.as_ref() == Some(&text) {
            return;
        }
        match &text {
            Ok(None) => self.set(FaultPlan::default()),
            Ok(Some(bytes)) => self.take_over(path, bytes),
            Err(error) => warn!(path = %path.display(), error, "the faults cannot be read"),
        }
        *seen = Some(text);
    }

    fn take_over(&self, path: &Path, bytes: &[u8]) {
        match FaultPlan::parse(bytes) {
            Ok(plan) => {
                info!(?plan, "faults of the links were set");
                self.set(plan);
            }
            Err(error) => {
                let path = path.display();
                warn!(%path, error, "the faults cannot be understood; the last ones stay");
            }
        }
    }
}

/// What the file says, if it is there.
type Text = Result<Option<Vec<u8>>, String>;

fn read(path: &Path) -> Text {
    let size = match fs::metadata(path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    if size > FILE_BYTES_MAX {
        return Err(format!("{size} bytes; a list of faults has at most {FILE_BYTES_MAX}"));
    }
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Keeps the faults in step with their file while it lives.
#[derive(Debug)]
pub(crate) struct FaultsFile(JoinHandle<()>);

impl Drop for FaultsFile {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn the_file_says_who_is_cut_and_who_is_late() {
        let text = br#"{"to": {"2": "cut"}, "from": {"3": {"delay_ms": 40}}}"#;
        let plan = FaultPlan::parse(text).unwrap();
        assert_eq!(plan.get(Direction::To, 2), Some(Fault::Cut));
        assert_eq!(plan.get(Direction::From, 2), None);
        assert_eq!(plan.get(Direction::From, 3), Some(Fault::DelayMs(40)));
        assert!(FaultPlan::parse(b"{}").unwrap().spares_links());
        let ahead = FaultPlan::parse(br#"{"clock_ms": -3600000}"#).unwrap();
        assert!(ahead.clock_ms == -3_600_000 && ahead.spares_links());
        for wrong in [r#"{"too": {}}"#, r#"{"to": {"x": "cut"}}"#, r#"{"to": {"1": "slow"}}"#, ""] {
            assert!(FaultPlan::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let late = FaultPlan::parse(br#"{"to": {"1": {"delay_ms": 60001}}}"#).unwrap_err();
        assert!(late.contains("use a cut"), "{late}");
        assert!(FaultPlan::parse(br#"{"clock_ms": 99999999999999}"#).is_err());
    }

    #[test]
    fn a_rough_line_is_late_by_its_seed_and_a_lost_chunk_waits_for_its_retransmission() {
        let text = br#"{"to": {"2": {"rough": {"delay_ms": 40, "jitter_ms": 20, "loss_percent": 20, "seed": 7}}}}"#;
        let plan = FaultPlan::parse(text).unwrap();
        let Some(Fault::Rough(rough)) = plan.get(Direction::To, 2) else { panic!("{plan:?}") };
        let late: Vec<u64> = (0..2_000).map(|turn| rough.late_ms(turn)).collect();
        assert_eq!(late, (0..2_000).map(|turn| rough.late_ms(turn)).collect::<Vec<_>>());
        assert!(late.iter().all(|ms| *ms >= 40));
        let lost = late.iter().filter(|ms| **ms >= 240).count();
        assert!((300..500).contains(&lost), "{lost} of 2,000 at 20 %");
        assert!(late.iter().any(|ms| *ms >= 640), "some are lost twice");
        let whole = Rough { delay_ms: 5, ..Rough::default() };
        assert!((0..100).all(|turn| whole.late_ms(turn) == 5));
        assert!(FaultPlan::parse(br#"{"to": {"2": {"rough": {"loss": 1}}}}"#).is_err());
    }

    #[tokio::test]
    async fn a_file_is_followed_and_a_broken_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("faults.json");
        let put = |text: &str| {
            fs::write(folder.path().join("draft"), text).unwrap();
            fs::rename(folder.path().join("draft"), &path).unwrap();
        };
        let faults = Arc::new(Faults::default());
        let _followed = Arc::clone(&faults).follow(path.clone());
        let until = async |wanted: bool| {
            while faults.any() != wanted {
                sleep(Duration::from_millis(1)).await;
            }
        };
        put(r#"{"to": {"2": "cut"}, "clock_ms": 7}"#);
        timeout(SOON, until(true)).await.unwrap();
        assert_eq!(faults.clock_ms(), 7);
        // The waiting dial is let through by the file's end, not by the broken text before it.
        let mut dial = Box::pin(faults.passage(2));
        put("{");
        assert!(timeout(Duration::from_millis(100), &mut dial).await.is_err());
        fs::remove_file(&path).unwrap();
        timeout(SOON, dial).await.unwrap();
        assert!(!faults.any() && faults.clock_ms() == 0);
        put(r#"{"clock_ms": -9}"#);
        let begins = Arc::new(Faults::default());
        let _followed = Arc::clone(&begins).follow(path.clone());
        assert_eq!(begins.clock_ms(), -9, "it holds from the beginning");
    }
}
