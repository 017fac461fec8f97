//! Waiting for what must happen: a look again and again, and an end with what was seen last.
//!
//! Nothing is measured by it. The limit is long, so that a machine with much to do breaks no test.
//!
//! Deliberately absent: waits in async code. The crates' own tests have a runtime of their own.

use std::time::{Duration, Instant};

/// How long anything that must happen may take on a machine that has much to do.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// The time between two looks.
pub(crate) const LOOK: Duration = Duration::from_millis(20);

/// Looks until something is found.
///
/// # Panics
/// If it is not found in time; says what was seen last.
pub fn until<T>(what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    found(look).unwrap_or_else(|last| panic!("{what}: {last}"))
}

/// Looks until something is found; fails with what was seen last.
pub(crate) fn found<T>(mut look: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Err(_) if Instant::now() < deadline => std::thread::sleep(LOOK),
            last => return last,
        }
    }
}
