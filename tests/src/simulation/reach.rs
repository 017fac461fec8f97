//! Which deliberate bugs the simulation can meet, and why not the others.
//!
//! A bug is in reach if its site is in code that the simulation runs, and what it breaks can be seen in a history or in the
//! rows. The rest stands in the engine, in actors, in the router: those are for the lab with real processes.
//!
//! Deliberately absent: how each is caught. The judge says that when it happens.
//!
//! Invariant: every mutant stands in exactly one of the two lists; a test compares them with the mutants that there are.

use statehouse_contract::Mutant;

/// Mutants that the simulation has to catch.
pub const IN_REACH: [Mutant; 14] = [
    Mutant::RefusalWithoutLog,
    Mutant::FenceBeforeOnce,
    Mutant::TokenByTerm,
    Mutant::TaskTokenReused,
    Mutant::AckBeforeSync,
    Mutant::NoTermFence,
    Mutant::NoVersionFence,
    Mutant::ReceiptsInCacheOnly,
    Mutant::SnapshotWithoutReceipts,
    Mutant::TimerEarly,
    Mutant::TimerTwice,
    Mutant::DedupeAcrossTenants,
    Mutant::LostSchedule,
    Mutant::AuditDropped,
];

/// Mutants that it cannot meet, with the reason.
pub const OUT_OF_REACH: [(Mutant, &str); 5] = [
    (Mutant::RefusedAfterLostReply, "the router is not simulated"),
    (
        Mutant::VoteNotSynced,
        "the engine's way to the log file is not simulated; votes are written by the simulation",
    ),
    (Mutant::LeaseReadsWithoutCheck, "the engine's reads are not simulated"),
    (Mutant::ApplySkipsEntry, "the thread that applies is not simulated"),
    (Mutant::StaleGroupTrusted, "groups of actors are not simulated"),
];
