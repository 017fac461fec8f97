//! Findings: what a reader of a definition has to say about it.
//!
//! Loading, parsing and validating never stop at the first trouble; each trouble becomes a [`Finding`] with a stable code,
//! a place (JSON pointer, line, column) and advice. The codes are a closed list: they are the names that tests, dashboards
//! and people use, so a code is never renamed and its severity is a property of the code, not of the occasion.
//!
//! Deliberately absent: refusals of a running instance (`Refusal`), colours, file names, and any way to silence a finding.
//!
//! Invariant: a list of findings that leaves this crate is sorted by place, so the same document gives the same text.

mod nearest;

use std::fmt;

use serde::{Deserialize, Serialize};

pub(crate) use nearest::nearest;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The definition is refused.
    Error,
    /// The definition is taken, but it probably does not do what its author thinks.
    Warning,
    /// Worth knowing; nothing to do.
    Info,
}

impl Severity {
    /// Returns the stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// Where something stands in the authored text; both count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl Place {
    /// The first character of a document: the place of what has no better one.
    pub const START: Self = Self { line: 1, column: 1 };
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.line, self.column)
    }
}

// One row a code: four lists of the same sixty names would not stay equal for long.
macro_rules! codes {
    ($($(#[$doc:meta])+ $variant:ident $name:literal $severity:ident,)+) => {
        /// What kind of trouble a finding reports; the closed list.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum FindingCode {
            $($(#[$doc])+ #[serde(rename = $name)] $variant,)+
        }

        impl FindingCode {
            /// Every code, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Returns the stable name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// Returns how much this kind of trouble weighs.
            pub fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)+ }
            }
        }
    };
}

codes! {
    // The text.
    /// The text is not YAML 1.2 or JSON.
    Malformed "malformed" Error,
    /// The text is longer than a definition may be.
    DocumentTooLarge "document-too-large" Error,
    /// Lists and objects are nested deeper than a definition may be.
    NestingTooDeep "nesting-too-deep" Error,
    /// One object has the same key twice.
    DuplicateKey "duplicate-key" Error,
    /// A key is not a string (an old YAML reads `on` as true).
    NonStringKey "non-string-key" Error,
    /// An anchor, an alias or a merge key.
    Alias "alias" Error,
    /// A YAML tag.
    Tag "tag" Error,
    /// A second document in the same text.
    SeveralDocuments "several-documents" Error,
    /// A number that is no 64-bit integer and no finite double.
    NumberOutOfRange "number-out-of-range" Error,

    // The shape.
    /// A keyword that does not exist here.
    UnknownKeyword "unknown-keyword" Error,
    /// A keyword that is reserved for a later release.
    ReservedKeyword "reserved-keyword" Error,
    /// A value of another kind than the keyword takes.
    WrongShape "wrong-shape" Error,
    /// A keyword that must be there and is not.
    MissingKeyword "missing-keyword" Error,
    /// A state key or an id that breaks the rule for names.
    BadName "bad-name" Error,
    /// A text that is no duration.
    BadDuration "bad-duration" Error,
    /// A task source of no known scheme.
    BadSource "bad-source" Error,
    /// A schema keyword outside our subset, or used wrongly.
    BadSchema "bad-schema" Error,

    // Names.
    /// Two states, or two invokes, with one id.
    DuplicateId "duplicate-id" Error,
    /// A target that names no state.
    UndefinedTarget "undefined-target" Error,
    /// A list of targets that cannot be active together.
    TargetsConflict "targets-conflict" Error,
    /// An initial state that is not below its state.
    InitialOutside "initial-outside" Error,
    /// A history default that is not below the parent of the history state, or is one itself.
    HistoryDefault "history-default" Error,
    /// A delay that is neither declared nor a duration.
    UndefinedDelay "undefined-delay" Error,
    /// A retry policy that is not declared.
    UndefinedRetry "undefined-retry" Error,
    /// A `$ref` to a schema that is not declared.
    UndefinedSchema "undefined-schema" Error,
    /// An event that nobody declares, raises or sends.
    UndefinedEvent "undefined-event" Error,
    /// A state that `active()` or a migration asks for and that does not exist.
    UndefinedState "undefined-state" Error,
    /// A `{ref: name}` without such a guard.
    UndefinedGuard "undefined-guard" Error,
    /// A `{do: name}` without such an action.
    UndefinedAction "undefined-action" Error,
    /// Named actions that use each other in a circle, or that unfold into too many.
    ActionCycle "action-cycle" Error,
    /// An author's name that starts with a word of the platform, or a platform name that an author sends.
    PlatformName "platform-name" Error,
    /// One name is a command and a raised event, or a command and a signal.
    EventNameClash "event-name-clash" Error,
    /// A delay whose name reads as a duration.
    DelayLikeDuration "delay-like-duration" Error,

    // Structure.
    /// A final state with children, transitions or work.
    FinalContent "final-content" Error,
    /// A history state with children, transitions or work.
    HistoryContent "history-content" Error,
    /// A compound or parallel state that is missing what makes it one.
    StateKind "state-kind" Error,
    /// `reject` or `postpone` together with something that moves.
    RefusalContent "refusal-content" Error,
    /// `reject` or `postpone` where nobody waits for an answer.
    RefusalMisplaced "refusal-misplaced" Error,
    /// `postpone` of an event of the platform.
    PostponePlatform "postpone-platform" Error,
    /// `reenter` without a target.
    ReenterWithoutTarget "reenter-without-target" Error,

    // Reachability.
    /// A state that nothing leads to.
    UnreachableState "unreachable-state" Error,
    /// An eventless loop that nothing stops.
    EventlessLoop "eventless-loop" Error,
    /// A state from which no end can be reached.
    NoFinalReachable "no-final-reachable" Error,

    // Expressions and data.
    /// A text that is no CEL.
    CelSyntax "cel-syntax" Error,
    /// An expression longer or deeper than it may be.
    ExpressionLimit "expression-limit" Error,
    /// A name that is not in scope, or a function that does not exist.
    UndefinedName "undefined-name" Error,
    /// A field that the schema does not have.
    UndefinedField "undefined-field" Error,
    /// An operator or function given values of the wrong types.
    TypeError "type-error" Error,
    /// A guard that is not a boolean.
    GuardNotBoolean "guard-not-boolean" Error,
    /// A value that does not fit its schema.
    ValueMisfit "value-misfit" Error,
    /// A comprehension over a map, whose order is unknown.
    ComprehensionOverMap "comprehension-over-map" Error,
    /// Comprehensions nested deeper, or working on more elements, than they may.
    ComprehensionTooDeep "comprehension-too-deep" Error,
    /// A field of `event.data` that not every event of that transition has.
    EventFieldMissing "event-field-missing" Error,
    /// A value marked `x-secret` that is copied to where it is shown.
    SecretLeaves "secret-leaves" Error,

    // Events and work.
    /// A command that no state handles.
    CommandUnhandled "command-unhandled" Error,
    /// A `reply` that no command can reach.
    ReplyWithoutCommand "reply-without-command" Error,
    /// A task that the saga may have to undo and that does not say how.
    SagaStepWithoutCompensate "saga-step-without-compensate" Error,
    /// `saga:compensate` without `onError`.
    SagaWithoutOnError "saga-without-on-error" Error,
    /// More states, transitions, timers or tasks than a definition may have.
    LimitExceeded "limit-exceeded" Error,
    /// A migration that leaves something of the old version unsaid.
    MigrationNotTotal "migration-not-total" Error,
    /// A workflow that starts itself without end.
    ChildCycle "child-cycle" Error,

    // Warnings.
    /// A candidate after one that always wins.
    DeadCandidate "dead-candidate" Warning,
    /// A guard that is never true.
    GuardNeverTrue "guard-never-true" Warning,
    /// A transition that an inner one always wins over.
    ShadowedTransition "shadowed-transition" Warning,
    /// Two regions that react to one event and leave the same states.
    RegionConflict "region-conflict" Warning,
    /// A state that can rest for ever.
    RestsWithoutDeadline "rests-without-deadline" Warning,
    /// A task without a time limit.
    TaskWithoutTimeout "task-without-timeout" Warning,
    /// A task whose failure nobody handles.
    TaskWithoutOnError "task-without-on-error" Warning,
    /// A postponed event that no later state handles.
    PostponeNeverHandled "postpone-never-handled" Warning,
    /// A postponement that depends on data alone.
    PostponeGuardOnContext "postpone-guard-on-context" Warning,
    /// A postponed command that may wait until its default deadline.
    PostponeWithoutDeadline "postpone-without-deadline" Warning,
    /// A transition that starts neighbouring regions again.
    RestartsSiblings "restarts-siblings" Warning,
    /// A wildcard that takes declared events.
    WildcardHidesEvents "wildcard-hides-events" Warning,
    /// A schema that nothing uses.
    UnusedSchema "unused-schema" Warning,
    /// A delay that nothing uses.
    UnusedDelay "unused-delay" Warning,
    /// A retry policy, guard, action, signal or event that nothing uses.
    UnusedName "unused-name" Warning,
    /// A context field that is neither assigned nor read.
    UnusedContextField "unused-context-field" Warning,
    /// An optional field that is read without `has()`.
    OptionalRead "optional-read" Warning,
    /// A value without a type, which is not checked.
    UntypedValue "untyped-value" Warning,
    /// A named timer that is never cancelled and whose event nobody handles.
    TimerNeverHandled "timer-never-handled" Warning,
    /// A short timer that sends and starts again.
    BusyTimer "busy-timer" Warning,
    /// An eventless loop that only a guard stops.
    EventlessLoopGuarded "eventless-loop-guarded" Warning,
    /// A text with `${` that is not wholly an expression.
    PartialInterpolation "partial-interpolation" Warning,

    // Information.
    /// A guard that is always true.
    GuardAlwaysTrue "guard-always-true" Info,
}

impl fmt::Display for FindingCode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// One thing to say about a definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What kind of trouble.
    pub code: FindingCode,
    /// How much it weighs; always the severity of `code`.
    pub severity: Severity,
    /// The place in the tree, as a JSON pointer; the root is the empty text.
    pub pointer: String,
    /// The place in the text.
    #[serde(flatten)]
    pub place: Place,
    /// What is wrong, with the names it is about.
    pub message: String,
    /// What to do about it.
    pub advice: String,
}

impl Finding {
    /// Makes a finding; its severity is that of its code.
    pub fn new(
        code: FindingCode,
        pointer: impl Into<String>,
        place: Place,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            code,
            severity: code.severity(),
            pointer: pointer.into(),
            place,
            message: message.into(),
            advice: advice.into(),
        }
    }

    /// Returns whether this finding refuses the definition.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pointer = if self.pointer.is_empty() { "/" } else { &self.pointer };
        let severity = self.severity.name();
        write!(out, "{} {severity} {} {pointer}: {}", self.place, self.code, self.message)?;
        if !self.advice.is_empty() {
            write!(out, "; {}", self.advice)?;
        }
        Ok(())
    }
}

/// Sorts findings by place, then by code, and drops exact repeats.
pub fn sort(findings: &mut Vec<Finding>) {
    findings.sort_by(|left, right| {
        (left.place, left.code, &left.pointer, &left.message).cmp(&(
            right.place,
            right.code,
            &right.pointer,
            &right.message,
        ))
    });
    findings.dedup();
}

/// Joins a JSON pointer and one more step, escaped as RFC 6901 wants it.
pub fn join(pointer: &str, step: &str) -> String {
    let mut joined = String::with_capacity(pointer.len() + step.len() + 1);
    joined.push_str(pointer);
    joined.push('/');
    for letter in step.chars() {
        match letter {
            '~' => joined.push_str("~0"),
            '/' => joined.push_str("~1"),
            other => joined.push(other),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_has_its_own_kebab_name_and_survives_json() {
        let mut names = BTreeSet::new();
        for code in FindingCode::ALL {
            let name = code.name();
            assert!(names.insert(name), "{name} twice");
            assert!(
                name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-'),
                "{name}"
            );
            let text = serde_json::to_string(code).expect("a unit variant is a string");
            assert_eq!(text, format!("\"{name}\""));
            assert_eq!(serde_json::from_str::<FindingCode>(&text).expect("read back"), *code);
        }
    }

    #[test]
    fn findings_are_sorted_by_place_and_repeats_are_dropped() {
        let at = |line, code| Finding::new(code, "/a", Place { line, column: 1 }, "m", "");
        let mut findings = vec![
            at(3, FindingCode::Tag),
            at(1, FindingCode::Alias),
            at(3, FindingCode::Tag),
            at(1, FindingCode::Malformed),
        ];
        sort(&mut findings);
        let codes: Vec<_> =
            findings.iter().map(|finding| (finding.place.line, finding.code)).collect();
        assert_eq!(
            codes,
            [(1, FindingCode::Malformed), (1, FindingCode::Alias), (3, FindingCode::Tag)]
        );
    }

    #[test]
    fn a_pointer_step_is_escaped() {
        assert_eq!(join("/states", "a/b~c"), "/states/a~1b~0c");
    }
}
