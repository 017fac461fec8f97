//! Comprehensions: lists only, two deep at most, and never more steps than anyone waits for.
//!
//! A map has no order that two nodes agree on, so a comprehension over one is refused, and so is one over a value that may
//! be a map. The steps of nested loops multiply; their product is bounded by the `maxItems` of the lists.
//!
//! Deliberately absent: the macros. They were expanded by the parser; what is walked is their expansion.

use cel::common::ast::ComprehensionExpr;

use statehouse_contract::limits::{COMPREHENSION_DEPTH_MAX, COMPREHENSION_STEPS_MAX};

use super::{Type, Walk};
use crate::{finding::FindingCode, types::ITEMS_MAX};

impl Walk<'_> {
    pub(super) fn comprehension(&mut self, inner: &ComprehensionExpr) -> Type {
        let range = self.value_on_the_way(&inner.iter_range);
        let (item, most) = match range {
            Type::List(items, most) => ((*items).clone(), most),
            Type::Object(_) | Type::Record(_) | Type::OneOf(_) | Type::Dyn => {
                let what = if range.is_dyn() { "what may be a map" } else { "a map" };
                let message =
                    format!("a comprehension over {what}: the order of its keys is unknown");
                let advice = "keep a list; if it is one, give its schema `type: array`";
                self.note(FindingCode::ComprehensionOverMap, message, advice);
                (Type::Dyn, ITEMS_MAX)
            }
            Type::Never => (Type::Dyn, 1),
            found @ (Type::Null
            | Type::Bool
            | Type::Int
            | Type::Double
            | Type::Text(_)
            | Type::Moment
            | Type::Span) => {
                let message = format!("a comprehension over a value of type {found}");
                self.note(FindingCode::TypeError, message, "only lists have items");
                (Type::Dyn, 1)
            }
        };
        if matches!(inner.iter_var.as_str(), "context" | "event" | "input" | "now") {
            let message = format!("the variable `{}` hides a name of the platform", inner.iter_var);
            self.note(FindingCode::TypeError, message, "give it another name");
        }
        let outer_factor = self.factor;
        self.enter(most);
        let start = self.value(&inner.accu_init);
        let before = self.known.clone();
        self.known = before.clone().without(&inner.iter_var);
        self.locals.push((inner.accu_var.clone(), start.clone()));
        self.locals.push((inner.iter_var.clone(), item));
        let step = self.value(&inner.loop_step);
        self.locals.pop();
        self.locals.pop();
        // A list that grows by one each time has at most as many items as the range.
        let whole = match start.join(step) {
            Type::List(items, _) => Type::List(items, most),
            other => other,
        };
        self.locals.push((inner.accu_var.clone(), whole));
        let result = self.value(&inner.result);
        self.locals.pop();
        self.known = before;
        self.factor = outer_factor;
        self.loops -= 1;
        result
    }

    fn enter(&mut self, most: u64) {
        self.loops += 1;
        self.factor = self.factor.saturating_mul(most.max(1));
        let was_over = self.steps > COMPREHENSION_STEPS_MAX;
        self.steps = self.steps.saturating_add(self.factor);
        if self.loops > COMPREHENSION_DEPTH_MAX {
            let message = format!(
                "comprehensions nest deeper than comprehension_depth_max, {COMPREHENSION_DEPTH_MAX}"
            );
            self.note(
                FindingCode::ComprehensionTooDeep,
                message,
                "split the expression over two actions",
            );
        } else if self.steps > COMPREHENSION_STEPS_MAX && !was_over {
            let message = format!(
                "the comprehensions may take {} steps; comprehension_steps_max is {COMPREHENSION_STEPS_MAX}",
                self.steps
            );
            self.note(
                FindingCode::ComprehensionTooDeep,
                message,
                "give the lists a `maxItems` in their schemas",
            );
        }
    }
}
