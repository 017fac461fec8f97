//! Whether the disk of the log is too slow to lead.
//!
//! A leader's own sync stands in the way of every command only if its followers are no quicker, but a disk that takes
//! tenths of a second for each sync soon holds up everything else its node does. When every write has been slow for a
//! while the node hands its shards over and is given none, until its writes have been quick again for as many in a row.
//!
//! Pure: times come in. Deliberately absent: what others' disks do. Whoever is as slow says so itself and is given nothing,
//! so that among equals nobody moves.

use std::time::{Duration, Instant};

/// A write that takes so long, its sync included, is slow: a quarter of the shortest election timeout (`local`: 250 ms)
/// would be noise on a busy machine; half of it is what a heartbeat round can bear.
const SLOW: Duration = Duration::from_millis(125);
/// How long every write must have been slow.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many writes in a row make up one's mind, either way.
const WRITES: u32 = 5;

/// What the last writes were like.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// When the first of an unbroken row of slow writes began.
    slow_since: Option<Instant>,
    slow: u32,
    quick: u32,
    is_slow: bool,
}

impl Pace {
    /// Takes in a write that has just ended; tells whether the disk is too slow to lead.
    pub(crate) fn see(&mut self, took: Duration, now: Instant) -> bool {
        if took >= SLOW {
            self.quick = 0;
            self.slow = self.slow.saturating_add(1);
            let since =
                *self.slow_since.get_or_insert_with(|| now.checked_sub(took).unwrap_or(now));
            if self.slow >= WRITES && now.saturating_duration_since(since) >= PATIENCE {
                self.is_slow = true;
            }
        } else {
            (self.slow_since, self.slow) = (None, 0);
            self.quick = self.quick.saturating_add(1);
            if self.quick >= WRITES {
                self.is_slow = false;
            }
        }
        self.is_slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays writes one behind the other and tells what was thought after each.
    fn play(writes_ms: &[u64]) -> Vec<bool> {
        let mut pace = Pace::default();
        let mut now = Instant::now();
        let mut one = |ms: &u64| {
            let took = Duration::from_millis(*ms);
            now += took;
            pace.see(took, now)
        };
        writes_ms.iter().map(&mut one).collect()
    }

    #[test]
    fn a_disk_is_slow_after_two_seconds_of_slow_writes_and_quick_after_five_quick_ones() {
        let seen = play(&[[500; 6].as_slice(), &[2; 6]].concat());
        assert_eq!(seen.iter().position(|slow| *slow), Some(4), "five writes in 2.5 s");
        assert_eq!(seen.iter().rposition(|slow| *slow), Some(9), "until the fifth quick one");
    }

    #[test]
    fn one_quick_write_breaks_the_row_and_few_slow_ones_prove_nothing() {
        assert!(!play(&[[200; 9].as_slice(), &[2], &[200; 9]].concat()).contains(&true));
        assert!(!play(&[3_000, 3_000, 3_000]).contains(&true));
        assert!(!play(&[100; 100]).contains(&true));
    }
}
