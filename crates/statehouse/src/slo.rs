//! Service levels: what was promised, what came of it, and how fast the rest of the promise burns.
//!
//! An objective counts good ones among all. What may go wrong is its budget; a burn rate of 1 uses it up in the time for
//! which it is meant, 14.4 in a fiftieth of that. Rates are taken over several windows at once, a long one that says that it
//! matters and a short one that says that it still goes on (the multi-window, multi-burn-rate alerts of Google's SRE
//! workbook, chapter 5).
//!
//! Absent on purpose: clocks and alerts. `serve` ticks; the rules in `deploy/observability` wake people.
//!
//! Invariant `BOUND`: an objective keeps at most `FINE_MAX` samples of ten seconds and `COARSE_MAX` of ten minutes.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::Serialize;
use statehouse_contract::{Operation, OutcomeClass};
use statehouse_telemetry::{Gauge, Meters, Tag};

/// How often samples are taken, in seconds.
pub(crate) const TICK_S: u64 = 10;
/// Samples of ten seconds: six hours.
const FINE_MAX: usize = 6 * 360;
/// Every so many ticks a coarse sample is kept.
const COARSE_EVERY: u64 = 60;
/// Samples of ten minutes: three days and one.
const COARSE_MAX: usize = 3 * 144 + 1;

/// What is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Objectives {
    /// Commands with a definite answer, in parts of a million.
    pub(crate) availability: u32,
    /// Commands answered within `latency_ms`, in parts of a million.
    pub(crate) latency: u32,
    /// The bound of that.
    pub(crate) latency_ms: u64,
    /// Timers that fire within `TIMER_LATE_MS_MAX`, in parts of a million.
    pub(crate) timers: u32,
    /// With fewer events in a window there is no alarm.
    pub(crate) minimum: u64,
}

#[cfg(test)]
impl Objectives {
    /// Objectives for tests that are about something else.
    pub(crate) const ANY: Self = Self {
        availability: 999_000,
        latency: 990_000,
        latency_ms: 100,
        timers: 990_000,
        minimum: 100,
    };
}

/// An objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Objective {
    /// Commands get a definite answer.
    Availability,
    /// Commands are answered in time.
    Latency,
    /// Timers fire in time.
    Timers,
}

/// A window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    FiveMinutes,
    HalfHour,
    Hour,
    SixHours,
    ThreeDays,
}

impl Objective {
    const ALL: [Self; 3] = [Self::Availability, Self::Latency, Self::Timers];
}

impl Tag for Objective {
    const KEY: &'static str = "objective";

    fn value(self) -> &'static str {
        match self {
            Self::Availability => "availability",
            Self::Latency => "latency",
            Self::Timers => "timers",
        }
    }
}

impl Window {
    const ALL: [Self; 5] =
        [Self::FiveMinutes, Self::HalfHour, Self::Hour, Self::SixHours, Self::ThreeDays];

    const fn seconds(self) -> u64 {
        match self {
            Self::FiveMinutes => 300,
            Self::HalfHour => 1_800,
            Self::Hour => 3_600,
            Self::SixHours => 21_600,
            Self::ThreeDays => 259_200,
        }
    }
}

impl Tag for Window {
    const KEY: &'static str = "window";

    fn value(self) -> &'static str {
        match self {
            Self::FiveMinutes => "5m",
            Self::HalfHour => "30m",
            Self::Hour => "1h",
            Self::SixHours => "6h",
            Self::ThreeDays => "3d",
        }
    }
}

/// Who has to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Alarm {
    /// Nobody.
    None,
    /// Somebody, on a working day.
    Ticket,
    /// Somebody, now.
    Page,
}

/// Good ones among all, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    good: u64,
    total: u64,
}

/// The samples of one objective.
#[derive(Debug, Default)]
struct Book {
    fine: VecDeque<(u64, Count)>,
    coarse: VecDeque<(u64, Count)>,
    ticks: u64,
}

impl Book {
    fn take(&mut self, second: u64, count: Count) {
        self.fine.push_back((second, count));
        if self.fine.len() > FINE_MAX {
            self.fine.pop_front();
        }
        if self.ticks.is_multiple_of(COARSE_EVERY) {
            self.coarse.push_back((second, count));
            if self.coarse.len() > COARSE_MAX {
                self.coarse.pop_front();
            }
        }
        self.ticks += 1;
    }

    /// Returns what was counted within a window that ends with the last sample; less where the process is younger.
    fn within(&self, window: Window) -> Count {
        let Some((now, last)) = self.fine.back().copied() else { return Count::default() };
        let from = now.saturating_sub(window.seconds());
        let fine = self.fine.iter().find(|(second, _)| *second >= from);
        let is_covered = self.fine.front().is_some_and(|(second, _)| *second <= from);
        let coarse = self.coarse.iter().find(|(second, _)| *second >= from);
        let start = if is_covered { fine } else { coarse.or(fine) };
        let start = start.map_or_else(Count::default, |(_, count)| *count);
        Count {
            good: last.good.saturating_sub(start.good),
            total: last.total.saturating_sub(start.total),
        }
    }
}

/// Returns how fast the budget burns.
fn burn(count: Count, target_per_million: u32) -> f64 {
    if count.total == 0 {
        return 0.0;
    }
    let bad = (count.total - count.good.min(count.total)) as f64 / count.total as f64;
    let budget = f64::from(1_000_000_u32.saturating_sub(target_per_million)) / 1_000_000.0;
    if budget > 0.0 { bad / budget } else { bad * 1_000_000.0 }
}

/// The service levels of one node.
pub(crate) struct Slo {
    objectives: Objectives,
    total: AtomicU64,
    available: AtomicU64,
    in_time: AtomicU64,
    books: Mutex<[Book; 3]>,
    burns: Gauge<(Objective, Window)>,
    targets: Gauge<(Objective,)>,
    goods: Gauge<(Objective,)>,
    totals: Gauge<(Objective,)>,
}

/// How an objective stands.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Standing {
    objective: &'static str,
    target_percent: f64,
    good: u64,
    total: u64,
    alarm: Alarm,
    windows: Vec<InWindow>,
}

#[derive(Clone, Debug, Serialize)]
struct InWindow {
    window: &'static str,
    good: u64,
    total: u64,
    burn: f64,
}

impl Slo {
    pub(crate) fn new(objectives: Objectives, meters: &Meters) -> Self {
        Self {
            objectives,
            total: AtomicU64::new(0),
            available: AtomicU64::new(0),
            in_time: AtomicU64::new(0),
            books: Mutex::default(),
            burns: meters.gauge(
                "statehouse.slo.burn",
                "{rate}",
                "How fast the budget of an objective burns, over a window; 1 uses it up exactly",
            ),
            targets: meters.gauge("statehouse.slo.target", "{ratio}", "The share that is promised"),
            goods: meters.gauge("statehouse.slo.good", "{event}", "Good ones since the start"),
            totals: meters.gauge("statehouse.slo.events", "{event}", "All of them since the start"),
        }
    }

    /// Counts an answer. What a client did wrong, and what a workflow refuses, is a good answer.
    pub(crate) fn answered(&self, operation: Operation, class: OutcomeClass, seconds: f64) {
        let counts = match operation {
            Operation::Start | Operation::Send | Operation::Signal | Operation::Operate => true,
            Operation::Fire | Operation::Task | Operation::Admin | Operation::Read => false,
        };
        // Who may not in, or asks for too much, is no measure of what was promised to the others.
        if !counts || matches!(class, OutcomeClass::Denied | OutcomeClass::Throttled) {
            return;
        }
        self.total.fetch_add(1, Ordering::Relaxed);
        let is_definite = !matches!(
            class,
            OutcomeClass::Unavailable | OutcomeClass::Unknown | OutcomeClass::Failed
        );
        if is_definite {
            self.available.fetch_add(1, Ordering::Relaxed);
            if seconds * 1_000.0 <= self.objectives.latency_ms as f64 {
                self.in_time.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Takes a sample; `timers` are those that fired, and those of them that were late.
    pub(crate) fn tick(&self, second: u64, (timers, late): (u64, u64)) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let total = read(&self.total);
        let counts = [
            Count { good: read(&self.available), total },
            Count { good: read(&self.in_time), total },
            Count { good: timers.saturating_sub(late), total: timers },
        ];
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        for (book, count) in books.iter_mut().zip(counts) {
            book.take(second, count);
        }
        for (objective, book) in Objective::ALL.into_iter().zip(books.iter()) {
            let target = self.target(objective);
            self.targets.set(f64::from(target) / 1_000_000.0, (objective,));
            if let Some((_, last)) = book.fine.back() {
                self.goods.set(last.good as f64, (objective,));
                self.totals.set(last.total as f64, (objective,));
            }
            for window in Window::ALL {
                self.burns.set(burn(book.within(window), target), (objective, window));
            }
        }
    }

    const fn target(&self, objective: Objective) -> u32 {
        match objective {
            Objective::Availability => self.objectives.availability,
            Objective::Latency => self.objectives.latency,
            Objective::Timers => self.objectives.timers,
        }
    }

    /// Returns how every objective stands.
    pub(crate) fn standing(&self) -> Vec<Standing> {
        let books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        let one = |(objective, book): (Objective, &Book)| {
            let target = self.target(objective);
            let last = book.fine.back().map_or_else(Count::default, |(_, count)| *count);
            let windows = Window::ALL.map(|window| {
                let count = book.within(window);
                InWindow {
                    window: window.value(),
                    good: count.good,
                    total: count.total,
                    burn: burn(count, target),
                }
            });
            Standing {
                objective: objective.value(),
                target_percent: f64::from(target) / 10_000.0,
                good: last.good,
                total: last.total,
                alarm: alarm(book, target, self.objectives.minimum),
                windows: windows.into(),
            }
        };
        Objective::ALL.into_iter().zip(books.iter()).map(one).collect()
    }
}

/// Who has to come: a page burns a month's budget within two days or faster, a ticket within the month.
fn alarm(book: &Book, target: u32, minimum: u64) -> Alarm {
    let over = |window: Window, rate: f64| {
        let count = book.within(window);
        count.total >= minimum && burn(count, target) > rate
    };
    if (over(Window::Hour, 14.4) && over(Window::FiveMinutes, 14.4))
        || (over(Window::SixHours, 6.0) && over(Window::HalfHour, 6.0))
    {
        Alarm::Page
    } else if over(Window::ThreeDays, 1.0) && over(Window::SixHours, 1.0) {
        Alarm::Ticket
    } else {
        Alarm::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: u32 = 999_000;

    /// Plays minutes with so many events each, of which so many are bad.
    fn play(minutes: &[(u64, u64, u64)]) -> Book {
        let mut book = Book::default();
        let (mut second, mut count) = (0, Count::default());
        book.take(second, count);
        for (times, events, bad) in minutes {
            for _ in 0..*times {
                for _ in 0..6 {
                    second += TICK_S;
                    count.total += events / 6;
                    count.good += (events - bad) / 6;
                    book.take(second, count);
                }
            }
        }
        book
    }

    fn rates(book: &Book) -> Vec<String> {
        Window::ALL
            .into_iter()
            .map(|window| format!("{} {:.1}", window.value(), burn(book.within(window), TARGET)))
            .collect()
    }

    #[test]
    fn a_steady_loss_of_one_budget_burns_at_one_and_wakes_nobody() {
        let book = play(&[(4_400, 6_000, 6)]);
        assert_eq!(rates(&book), ["5m 1.0", "30m 1.0", "1h 1.0", "6h 1.0", "3d 1.0"]);
        assert_eq!(alarm(&book, TARGET, 100), Alarm::None);
    }

    #[test]
    fn a_sharp_outage_pages_within_minutes_and_stops_when_it_is_over() {
        let book = play(&[(600, 6_000, 0), (2, 6_000, 6_000)]);
        assert_eq!(alarm(&book, TARGET, 100), Alarm::Page);
        let over = play(&[(600, 6_000, 0), (2, 6_000, 6_000), (31, 6_000, 0)]);
        assert_ne!(alarm(&over, TARGET, 100), Alarm::Page, "{:?}", rates(&over));
    }

    #[test]
    fn a_slow_leak_is_a_ticket() {
        let book = play(&[(4_400, 6_000, 12)]);
        assert_eq!(alarm(&book, TARGET, 100), Alarm::Ticket, "{:?}", rates(&book));
    }

    #[test]
    fn with_little_traffic_one_failure_is_no_alarm() {
        let book = play(&[(300, 0, 0), (1, 6, 6)]);
        assert!(burn(book.within(Window::FiveMinutes), TARGET) > 14.4);
        assert_eq!(alarm(&book, TARGET, 100), Alarm::None);
    }

    #[test]
    fn a_book_stays_small_for_ever() {
        let book = play(&[(10_000, 60, 0)]);
        assert_eq!((book.fine.len(), book.coarse.len()), (FINE_MAX, COARSE_MAX));
    }

    #[test]
    fn what_the_caller_did_wrong_is_no_loss_and_what_nobody_could_answer_is() {
        let objectives = Objectives {
            availability: TARGET,
            latency: 990_000,
            latency_ms: 100,
            timers: 990_000,
            minimum: 1,
        };
        let slo = Slo::new(objectives, &Meters::start().unwrap());
        slo.answered(Operation::Send, OutcomeClass::Refused, 0.01);
        slo.answered(Operation::Send, OutcomeClass::Ok, 0.2);
        slo.answered(Operation::Start, OutcomeClass::Unknown, 1.0);
        slo.answered(Operation::Send, OutcomeClass::Denied, 0.01);
        slo.answered(Operation::Read, OutcomeClass::Unavailable, 0.01);
        slo.tick(10, (4, 1));
        let told: Vec<_> =
            slo.standing().iter().map(|one| (one.objective, one.good, one.total)).collect();
        assert_eq!(told, [("availability", 2, 3), ("latency", 1, 3), ("timers", 3, 4)]);
    }
}
