//! The page of each rejection code, as the runbooks have it, built into the binary.
//!
//! A problem document's `type` is `/errors/<code>`; that is here. A code without a page does not compile.
//!
//! Absent on purpose: turning Markdown into HTML. A terminal reads it as it is.

use statehouse_contract::RejectionCode;

macro_rules! pages {
    ($($code:literal)*) => {
        fn text(code: &str) -> Option<&'static str> {
            match code {
                $($code => Some(include_str!(concat!(
                    "../../../../runbooks/operate/errors/",
                    $code,
                    ".md"
                ))),)*
                _ => None,
            }
        }
    };
}

pages! {
    "invalid_request" "payload_too_large" "invalid_definition" "invalid_payload" "unauthenticated"
    "forbidden" "unknown_definition" "unknown_instance" "unknown_task" "unknown_tenant" "already_exists"
    "unknown_event" "not_handled" "guard_refused" "rejected" "instance_finished" "instance_faulted"
    "instance_paused" "postpone_overflow" "postpone_expired" "evaluation_error" "limit_exceeded"
    "stale_lease" "version_conflict" "key_reused" "compacted" "key_expired" "quota_exceeded" "overloaded"
    "no_leader" "no_quorum" "storage_full" "draining" "behind" "deadline_exceeded" "quarantined" "internal"
}

/// Returns the page of a code.
pub(super) fn page(code: RejectionCode) -> &'static str {
    text(code.code()).unwrap_or_else(|| code.title())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_page() {
        for code in RejectionCode::ALL {
            let page = text(code.code()).unwrap_or_default();
            assert!(page.starts_with(&format!("# `{code}`")), "{code}: {page}");
        }
    }
}
