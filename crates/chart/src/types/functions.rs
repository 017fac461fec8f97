//! The types of CEL's functions and methods: the closed list of `guard/functions.rs`, seen from outside.
//!
//! Deliberately absent: operators and macros, whose types depend on their parts (`check.rs`).

use super::Type;

/// The arguments that a function takes: each may be one of several types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Anything,
    Text,
    Sized,
    TextOrBool,
    Number,
    Printable,
    TextOrSpan,
    TextOrMoment,
    Moment,
    MomentOrSpan,
}

impl Takes {
    fn takes(self, found: &Type) -> bool {
        match found {
            Type::Dyn | Type::Never | Type::OneOf(_) => true,
            Type::Null => self == Self::Anything,
            Type::Bool => matches!(self, Self::Anything | Self::TextOrBool | Self::Printable),
            Type::Int => {
                matches!(self, Self::Anything | Self::Number | Self::Printable | Self::TextOrMoment)
            }
            Type::Double => matches!(self, Self::Anything | Self::Number | Self::Printable),
            Type::Text(_) => !matches!(self, Self::Moment | Self::MomentOrSpan),
            Type::Moment => matches!(
                self,
                Self::Anything
                    | Self::Printable
                    | Self::TextOrMoment
                    | Self::Moment
                    | Self::MomentOrSpan
                    | Self::Number
            ),
            Type::Span => matches!(
                self,
                Self::Anything | Self::Printable | Self::TextOrSpan | Self::MomentOrSpan
            ),
            Type::List(..) | Type::Object(_) | Type::Record(_) => {
                matches!(self, Self::Anything | Self::Sized)
            }
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Anything => "anything",
            Self::Text => "a string",
            Self::Sized => "a string, a list or an object",
            Self::TextOrBool => "a string or a bool",
            Self::Number => "a number or a string",
            Self::Printable => "a plain value",
            Self::TextOrSpan => "a string or a duration",
            Self::TextOrMoment => "a string or a timestamp",
            Self::Moment => "a timestamp",
            Self::MomentOrSpan => "a timestamp or a duration",
        }
    }
}

/// The type of a call, or what is wrong with it.
pub(super) enum Answer {
    Of(Type),
    /// There is no such function, or not with so many arguments.
    Unknown,
    /// An argument of the wrong type: what it should be, and what it is.
    Misfit {
        wanted: &'static str,
        found: Type,
    },
}

/// Returns the type of a call; for a method the target is the first part.
pub(super) fn call(name: &str, is_method: bool, parts: &[Type]) -> Answer {
    let (takes, gives): (&[Takes], Type) = match (name, is_method) {
        ("size", _) => (&[Takes::Sized], Type::Int),
        ("contains" | "startsWith" | "endsWith", true) | ("matches", _) => {
            (&[Takes::Text, Takes::Text], Type::Bool)
        }
        ("string", false) => (&[Takes::Printable], Type::TEXT),
        ("int", false) => (&[Takes::Number], Type::Int),
        ("double", false) => (&[Takes::Number], Type::Double),
        ("bool", false) => (&[Takes::TextOrBool], Type::Bool),
        ("dyn", false) => (&[Takes::Anything], Type::Dyn),
        ("duration", false) => (&[Takes::TextOrSpan], Type::Span),
        ("timestamp", false) => (&[Takes::TextOrMoment], Type::Moment),
        (
            "getFullYear" | "getMonth" | "getDate" | "getDayOfMonth" | "getDayOfWeek"
            | "getDayOfYear",
            true,
        ) => (&[Takes::Moment], Type::Int),
        ("getHours" | "getMinutes" | "getSeconds" | "getMilliseconds", true) => {
            (&[Takes::MomentOrSpan], Type::Int)
        }
        _ => return Answer::Unknown,
    };
    if takes.len() != parts.len() {
        return Answer::Unknown;
    }
    let wrong = takes.iter().zip(parts).find(|(takes, part)| !takes.takes(part));
    match wrong {
        Some((takes, part)) => Answer::Misfit { wanted: takes.words(), found: part.clone() },
        None => Answer::Of(gives),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::function_names;

    #[test]
    fn every_function_of_the_evaluator_has_a_type() {
        for name in function_names().filter(|name| *name != "active") {
            let is_known = [false, true].into_iter().any(|is_method| {
                let tries = [vec![Type::Dyn], vec![Type::Dyn, Type::Dyn]];
                tries.iter().any(|parts| !matches!(call(name, is_method, parts), Answer::Unknown))
            });
            assert!(is_known, "{name}");
        }
    }
}
