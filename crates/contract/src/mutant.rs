//! Deliberate bugs, so that the fault lab can prove that it still bites.
//!
//! A run that judges `VALID` says little as long as nobody knows what it would have caught. Each mutant here breaks one
//! promise of `runbooks/develop/reliability.md` at one place; the lab runs it and demands the verdict `INVALID`. A
//! process has at most one mutant. It is chosen once, before anything is opened, and never changes.
//!
//! In a build without the feature `mutants`, and in every build without debug assertions, [`is`] is `false` at compile
//! time: the sites leave no instruction behind, and [`choose`] refuses whatever it is asked for.
//!
//! Deliberately absent: reading the environment. This crate has no IO; the binary reads the variable and passes its
//! value down. Absent, too, are tests that choose a mutant in their own process: the choice would outlive them and
//! break their neighbours.
//!
//! Invariant: without a choice, no site does anything but what it did before.

use std::fmt;

use crate::time::Timestamp;

/// Whether this build can misbehave at all: the feature is on, and it is a debug build.
pub const COMPILED_IN: bool = cfg!(all(feature = "mutants", debug_assertions));

/// How much too early a timer fires, in milliseconds.
const EARLY_MS: i64 = 300;

macro_rules! mutants {
    ($($(#[$doc:meta])+ $variant:ident = $name:literal breaks $promise:literal,)+) => {
        /// A deliberate bug; the text of each says which promise it breaks, and how.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Mutant {
            $($(#[$doc])+ $variant,)+
        }

        impl Mutant {
            /// Every mutant, in the order of the table on the page.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Returns the name by which a run asks for it, in kebab case.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// Returns the promise that it breaks first, by its number on the page about reliability.
            #[must_use]
            pub const fn breaks(self) -> &'static str {
                match self {
                    $(Self::$variant => $promise,)+
                }
            }
        }
    };
}

mutants! {
    /// S9: a refusal that was judged against state is answered without an entry, so that the same key may be applied later.
    RefusalWithoutLog = "refusal-without-log" breaks "S9",
    /// S3: the expected version is checked before the key is looked up, so that a retry gets a conflict instead of its answer.
    FenceBeforeOnce = "fence-before-once" breaks "S3",
    /// S9: a forward whose reply was lost after it had left is answered as certainly not done.
    RefusedAfterLostReply = "refused-after-lost-reply" breaks "S9",
    /// S11: a lease's token is made from the term instead of the task's own counter.
    TokenByTerm = "token-by-term" breaks "S11",
    /// S11: the next lease of a task gets the token of the one before.
    TaskTokenReused = "task-token-reused" breaks "S11",
    /// S1: the log tells that entries are safe while they are in the page cache; the sync comes a good while later.
    AckBeforeSync = "ack-before-sync" breaks "S1",
    /// S5: a vote counts before it is on the disk, where only the one of the term before ever is.
    VoteNotSynced = "vote-not-synced" breaks "S5",
    /// S5: a leader that was away decides in its first term again, and nobody asks in which term an entry was decided.
    NoTermFence = "no-term-fence" breaks "S5",
    /// S4: an actor misses some moves, and an entry is applied whatever version and row it was decided at.
    NoVersionFence = "no-version-fence" breaks "S4",
    /// S3: the keys of answers are not written, so that only the memory of who answered knows them.
    ReceiptsInCacheOnly = "receipts-in-cache-only" breaks "S3",
    /// S3: a copy of a shard has no receipts, and whoever was filled by one knows no answer of before.
    SnapshotWithoutReceipts = "snapshot-without-receipts" breaks "S3",
    /// S6: a linearizable read is answered from the rows of whoever is asked.
    LeaseReadsWithoutCheck = "lease-reads-without-check" breaks "S6",
    /// S10: a timer fires before it is due.
    TimerEarly = "timer-early" breaks "S10",
    /// S10: a timer that has fired stays armed and fires again.
    TimerTwice = "timer-twice" breaks "S10",
    /// S8: node 2 leaves out some entries that others have decided.
    ApplySkipsEntry = "apply-skips-entry" breaks "S8",
    /// S1: keys are looked up without their tenant, so that one tenant gets another's answer and nothing is done for it.
    DedupeAcrossTenants = "dedupe-across-tenants" breaks "S1",
    /// S6: whoever has led stays in the leaders' group, and answers linearizable reads because it is in it.
    StaleGroupTrusted = "stale-group-trusted" breaks "S6",
    /// S12: the tasks of every fourth instance are said to be scheduled and have no row.
    LostSchedule = "lost-schedule" breaks "S12",
    /// S17: an entry is kept without who asked for it and why.
    AuditDropped = "audit-dropped" breaks "S17",
}

impl Mutant {
    /// Finds a mutant by its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|mutant| mutant.name() == name)
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a process does not get the mutant that it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChooseError {
    /// This build has no mutants: the feature is off, or it was built without debug assertions.
    #[error("the mutant {0:?} was asked for, and this build has no deliberate bugs")]
    NotCompiledIn(String),
    /// There is no mutant of this name.
    #[error("{0:?} is no mutant")]
    Unknown(String),
    /// The process has made its choice already, and it was another.
    #[error("this process has chosen already")]
    ChosenBefore,
}

/// Chooses this process's mutant, once, from the text that the process was given; without a text there is none.
///
/// # Errors
/// This build has no mutants, there is none of this name, or the process has chosen another before.
pub fn choose(name: Option<&str>) -> Result<Option<Mutant>, ChooseError> {
    let Some(mutant) = judge(name, COMPILED_IN)? else { return Ok(None) };
    chosen::set(mutant)?;
    Ok(Some(mutant))
}

// A value that is there is never passed over, not even an empty one: whoever sets the variable expects a bug.
fn judge(name: Option<&str>, compiled_in: bool) -> Result<Option<Mutant>, ChooseError> {
    let Some(name) = name else { return Ok(None) };
    if !compiled_in {
        return Err(ChooseError::NotCompiledIn(name.to_owned()));
    }
    Mutant::parse(name).map(Some).ok_or_else(|| ChooseError::Unknown(name.to_owned()))
}

#[cfg(all(feature = "mutants", debug_assertions))]
mod chosen {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::{ChooseError, Mutant};

    const NONE: u8 = u8::MAX;

    // Written once before any other thread of the node runs, so that readers need no order.
    static CHOSEN: AtomicU8 = AtomicU8::new(NONE);

    pub(super) fn set(mutant: Mutant) -> Result<(), ChooseError> {
        let mine = mutant as u8;
        match CHOSEN.compare_exchange(NONE, mine, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            Err(before) if before == mine => Ok(()),
            Err(_) => Err(ChooseError::ChosenBefore),
        }
    }

    pub(super) fn is(mutant: Mutant) -> bool {
        CHOSEN.load(Ordering::Relaxed) == mutant as u8
    }

    pub(super) fn get() -> Option<Mutant> {
        Mutant::ALL.iter().copied().find(|mutant| is(*mutant))
    }
}

#[cfg(not(all(feature = "mutants", debug_assertions)))]
mod chosen {
    use super::{ChooseError, Mutant};

    // Not reached: `judge` refuses every name in such a build. It refuses here, too, rather than trust that.
    pub(super) fn set(mutant: Mutant) -> Result<(), ChooseError> {
        Err(ChooseError::NotCompiledIn(mutant.name().to_owned()))
    }

    #[inline(always)]
    pub(super) const fn is(_mutant: Mutant) -> bool {
        false
    }

    pub(super) const fn get() -> Option<Mutant> {
        None
    }
}

/// Returns the time by which it is judged whether a timer is due: that of the decision, unless a mutant hurries.
#[must_use]
pub fn ripe_at(at: Timestamp) -> Timestamp {
    if is(Mutant::TimerEarly) { at.after_ms(EARLY_MS) } else { at }
}

/// Returns what this process has chosen.
#[must_use]
pub fn chosen() -> Option<Mutant> {
    chosen::get()
}

/// Returns whether this process is to misbehave in this way: never, unless the build has mutants and one was chosen.
#[inline(always)]
#[must_use]
pub fn is(mutant: Mutant) -> bool {
    chosen::is(mutant)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_in_kebab_case() {
        let names: BTreeSet<_> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
        assert_eq!(names.len(), Mutant::ALL.len());
        assert!(names.len() >= 17, "{} mutants", names.len());
        for name in names {
            let is_kebab = |part: &str| {
                !part.is_empty() && part.bytes().all(|letter| letter.is_ascii_lowercase())
            };
            assert!(name.split('-').all(is_kebab), "{name}");
        }
    }

    #[test]
    fn a_mutant_is_found_by_its_name_and_by_nothing_else() {
        for mutant in Mutant::ALL {
            assert_eq!(Mutant::parse(mutant.name()), Some(*mutant));
            assert_eq!(judge(Some(mutant.name()), true), Ok(Some(*mutant)));
        }
        for wrong in ["", "ack_before_sync", "Ack-Before-Sync", " ack-before-sync", "all", "none"] {
            assert_eq!(Mutant::parse(wrong), None, "{wrong:?}");
            assert_eq!(judge(Some(wrong), true), Err(ChooseError::Unknown(wrong.to_owned())));
        }
        assert_eq!(judge(None, true), Ok(None));
    }

    #[test]
    fn a_build_without_mutants_refuses_every_name_and_needs_none() {
        assert_eq!(judge(None, false), Ok(None));
        for name in Mutant::ALL.iter().map(|mutant| mutant.name()).chain(["", "no-such"]) {
            assert_eq!(judge(Some(name), false), Err(ChooseError::NotCompiledIn(name.to_owned())));
        }
    }

    #[test]
    fn the_page_about_reliability_tells_of_every_mutant_and_what_it_breaks() {
        let page = include_str!("../../../runbooks/develop/reliability.md");
        let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| `")).collect();
        for mutant in Mutant::ALL {
            let row = format!("| `{}` | {} | ", mutant.name(), mutant.breaks());
            assert!(rows.iter().any(|line| line.starts_with(&row)), "no row {row}");
        }
    }

    #[test]
    fn without_a_choice_nothing_misbehaves() {
        assert_eq!((choose(None), chosen()), (Ok(None), None));
        assert!(Mutant::ALL.iter().all(|mutant| !is(*mutant)));
    }
}
