//! What the judge says: valid, invalid with proof, or undecided with reasons; and what the run consisted of.
//!
//! A violation carries the lines that prove it, so that a person can check the judge. Violations of one rule are
//! counted in full and listed up to a limit: ten thousand copies of one mistake help nobody.
//!
//! Invariant: a verdict is `Valid` only if every rule that a history can show was judged, on a complete dump, and the
//! run met the demanded minimums. Doubt is never validity.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How many violations of one rule are listed.
pub(crate) const LISTED_MAX: usize = 20;

/// Promises that no history can show.
pub(crate) const NOT_JUDGED: [&str; 4] = [
    "S14 (corrupt records)",
    "S15 (votes of a node that lost its data)",
    "S13 beyond answers (timing, metrics, traces)",
    "S17 outside the log",
];

/// The judge's word on one history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Valid, invalid or undecided.
    #[serde(flatten)]
    pub finding: Finding,
    /// What the run consisted of.
    pub counts: Counts,
    /// How long service was gone around each fault.
    pub faults: Vec<FaultGap>,
    /// Promises that this history cannot show.
    pub not_judged: Vec<String>,
}

/// Valid, invalid or undecided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum Finding {
    /// Every promise that a history can show was kept.
    Valid,
    /// At least one promise was broken.
    Invalid {
        /// How many times in all.
        total: usize,
        /// The first of each rule, with proof.
        violations: Vec<Violation>,
        /// What could not be decided besides.
        doubts: Vec<String>,
    },
    /// No promise was seen to be broken, but not all could be judged.
    Undecided {
        /// Why not.
        why: Vec<String>,
    },
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Which promise.
    pub rule: Rule,
    /// Whose: `tenant/instance`, a shard or a fault.
    pub subject: String,
    /// What happened, in one sentence.
    pub what: String,
    /// The lines that prove it.
    pub evidence: Vec<Evidence>,
}

/// One line of the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Its number, from 1.
    pub line: usize,
    /// Its text.
    pub text: String,
}

/// The promises, numbered as in the list of invariants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Rule {
    /// An acknowledged command is never lost.
    #[serde(rename = "S1")]
    Lost,
    /// One key changes state at most once.
    #[serde(rename = "S2")]
    Once,
    /// A retry gets the stored answer.
    #[serde(rename = "S3")]
    Answer,
    /// Versions run 1, 2, 3; an entry applies only at its expected version.
    #[serde(rename = "S4")]
    Version,
    /// At most one leader per shard and term.
    #[serde(rename = "S5")]
    Leader,
    /// What was acknowledged before is seen after.
    #[serde(rename = "S6")]
    RealTime,
    /// Stale and session reads are committed prefixes and never go back.
    #[serde(rename = "S7")]
    Prefix,
    /// Replicas at one position are equal.
    #[serde(rename = "S8")]
    Replica,
    /// Definite answers are true.
    #[serde(rename = "S9")]
    Definite,
    /// A timer generation fires at most once, not after its cancellation, not early.
    #[serde(rename = "S10")]
    Timer,
    /// A task has one holder per token, and a stale token completes nothing.
    #[serde(rename = "S11")]
    Lease,
    /// Nothing scheduled disappears.
    #[serde(rename = "S12")]
    Pending,
    /// Nothing of one tenant is visible to another.
    #[serde(rename = "S13")]
    Tenant,
    /// An instance stays on its definition.
    #[serde(rename = "S16")]
    Definition,
    /// Every change says who, when and why.
    #[serde(rename = "S17")]
    Audit,
    /// Service is back within the fault's budget.
    #[serde(rename = "L1")]
    Budget,
}

impl Rule {
    /// Returns the promise's number.
    pub fn code(self) -> &'static str {
        match self {
            Self::Lost => "S1",
            Self::Once => "S2",
            Self::Answer => "S3",
            Self::Version => "S4",
            Self::Leader => "S5",
            Self::RealTime => "S6",
            Self::Prefix => "S7",
            Self::Replica => "S8",
            Self::Definite => "S9",
            Self::Timer => "S10",
            Self::Lease => "S11",
            Self::Pending => "S12",
            Self::Tenant => "S13",
            Self::Definition => "S16",
            Self::Audit => "S17",
            Self::Budget => "L1",
        }
    }
}

/// What the run consisted of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Lines in the file.
    pub lines: u64,
    /// Attempts of every kind.
    pub attempts: u64,
    /// Attempts that were reads.
    pub reads: u64,
    /// Answers `ok`.
    pub ok: u64,
    /// Answers `rejected`.
    pub rejected: u64,
    /// Answers `fail`.
    pub failed: u64,
    /// Answers `unknown`, and attempts without answer.
    pub unknown: u64,
    /// Answers `postponed`.
    pub postponed: u64,
    /// Attempts after the first of their key.
    pub retries: u64,
    /// Retries that were answered from a stored receipt.
    pub dedupe_hits: u64,
    /// Instances that any line names.
    pub instances: u64,
    /// Nodes that told their entries.
    pub nodes: u64,
    /// Entry lines.
    pub entries: u64,
    /// Changes with a client's key that no attempt in this file sent.
    pub unclaimed: u64,
    /// Timer generations armed.
    pub timers_armed: u64,
    /// Timer generations fired.
    pub timers_fired: u64,
    /// Tasks scheduled.
    pub tasks: u64,
    /// Times that a shard's term grew within the entries.
    pub leader_changes: u64,
    /// Faults begun.
    pub faults: u64,
}

/// How long service was gone around one fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultGap {
    /// The fault.
    pub fault: String,
    /// When it began, harness clock.
    pub begin_ns: i64,
    /// The longest time without an answer on its shards while somebody asked.
    pub gap_ms: i64,
    /// What was allowed, if anything was said.
    pub budget_ms: Option<i64>,
}

/// The least that a run must contain, so that its verdict means something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demands {
    /// Answers `ok`.
    pub ok: u64,
    /// Unknown outcomes.
    pub unknown: u64,
    /// Attempts after the first of their key.
    pub retries: u64,
    /// Retries answered from a stored receipt.
    pub dedupe_hits: u64,
    /// Timers fired.
    pub timers_fired: u64,
    /// Changes of leader.
    pub leader_changes: u64,
    /// Faults begun.
    pub faults: u64,
}

impl Demands {
    /// Demands nothing but one acknowledged command: for short runs without faults.
    pub const LEAST: Self = Self {
        ok: 1,
        unknown: 0,
        retries: 0,
        dedupe_hits: 0,
        timers_fired: 0,
        leader_changes: 0,
        faults: 0,
    };

    /// Demands what a drill with killed processes must show at least.
    pub const DRILL: Self = Self {
        ok: 100,
        unknown: 1,
        retries: 1,
        dedupe_hits: 1,
        timers_fired: 0,
        leader_changes: 0,
        faults: 1,
    };

    /// Returns what is missing, one sentence each.
    pub(crate) fn missing(&self, counts: &Counts) -> Vec<String> {
        let pairs = [
            ("ok answers", self.ok, counts.ok),
            ("unknown outcomes", self.unknown, counts.unknown),
            ("retries", self.retries, counts.retries),
            ("dedupe hits", self.dedupe_hits, counts.dedupe_hits),
            ("timers fired", self.timers_fired, counts.timers_fired),
            ("leader changes", self.leader_changes, counts.leader_changes),
            ("faults", self.faults, counts.faults),
        ];
        let lacking = pairs.into_iter().filter(|(_, wanted, found)| found < wanted);
        lacking
            .map(|(what, wanted, found)| {
                format!("the run is vacuous: {found} {what}, at least {wanted} demanded")
            })
            .collect()
    }
}

impl Verdict {
    /// Tells whether every promise that a history can show was kept.
    pub fn is_valid(&self) -> bool {
        self.finding == Finding::Valid
    }

    /// Returns the listed violations; none unless invalid.
    pub fn violations(&self) -> &[Violation] {
        match &self.finding {
            Finding::Invalid { violations, .. } => violations,
            Finding::Valid | Finding::Undecided { .. } => &[],
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.finding {
            Finding::Valid => writeln!(f, "VALID")?,
            Finding::Undecided { why } => {
                writeln!(f, "UNDECIDED")?;
                why.iter().try_for_each(|why| writeln!(f, "  because {why}"))?;
            }
            Finding::Invalid { total, violations, doubts } => {
                writeln!(f, "INVALID: {total} violations, {} listed", violations.len())?;
                violations.iter().try_for_each(|violation| write!(f, "{violation}"))?;
                doubts.iter().try_for_each(|why| writeln!(f, "  undecided besides: {why}"))?;
            }
        }
        writeln!(f, "{}", self.counts)?;
        for gap in &self.faults {
            let budget = gap
                .budget_ms
                .map_or_else(|| "no budget".to_owned(), |ms| format!("budget {ms} ms"));
            writeln!(f, "fault {}: {} ms without an answer ({budget})", gap.fault, gap.gap_ms)?;
        }
        write!(f, "not judged: {}", self.not_judged.join("; "))
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {} {}: {}", self.rule.code(), self.subject, self.what)?;
        self.evidence
            .iter()
            .try_for_each(|proof| writeln!(f, "      line {}: {}", proof.line, proof.text))
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "attempts {} (reads {}): ok {}, rejected {}, failed {}, unknown {}, postponed {}; retries {}, dedupe hits {}",
            self.attempts,
            self.reads,
            self.ok,
            self.rejected,
            self.failed,
            self.unknown,
            self.postponed,
            self.retries,
            self.dedupe_hits
        )?;
        write!(
            f,
            "entries {} of {} instances on {} nodes ({} unclaimed); timers armed {}, fired {}; tasks {}; \
             leader changes {}; faults {}",
            self.entries,
            self.instances,
            self.nodes,
            self.unclaimed,
            self.timers_armed,
            self.timers_fired,
            self.tasks,
            self.leader_changes,
            self.faults
        )
    }
}
