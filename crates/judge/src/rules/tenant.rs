//! S13, as far as answers go: nothing of one tenant is visible to another.
//!
//! Every payload of a drill carries its tenant's canary; `see` names the tenants whose canaries occur anywhere in an
//! answer. Timing, metrics and traces have their own oracle.

use super::{Proof, Report};
use crate::verdict::Rule;

pub(crate) fn check(report: &mut Report<'_, '_>) {
    let index = report.index;
    for attempt in &index.history.attempts {
        let Some(ret) = &attempt.ret else { continue };
        for other in ret.see.iter().filter(|tenant| **tenant != attempt.inv.tenant) {
            let what = format!("an answer to {} shows something of {other}", attempt.inv.tenant);
            report.violate(Rule::Tenant, attempt.inv.tenant.clone(), what, Proof::attempt(attempt));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Script;

    #[test]
    fn an_answer_that_shows_another_tenant_is_found() {
        Script::clean()
            .with("read.ret", "see", r#"["t","u"]"#)
            .finds("S13", "an answer to t shows something of u");
    }
}
