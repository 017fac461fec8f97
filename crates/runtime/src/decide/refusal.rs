//! Refusals as entries: what was judged against state is written down, with its answer.
//!
//! So no other attempt of the same key can be applied later, and no deposed leader can refuse what is already done. A
//! refusal makes no version, but it stands at the version at which it was judged, and is fenced like a transition.
//!
//! Absent on purpose: answers that depend on the request alone; those are not written down.

use statehouse_chart::Step;
use statehouse_contract::{Json, ReceiptKind, Rejection, StoredReceipt, Target};
use statehouse_store::entry::{Body, Cause, Entry, Pin, Refused};

use super::{Decision, Draft, Judge, Standing, body, expect, place, rows};

impl Judge<'_> {
    /// A signal that nothing takes is answered with 200 and written down, so that its key cannot be taken later.
    pub(super) fn signal_ignored(
        self,
        standing: &Standing,
        taken: &Step,
        caused: Cause,
    ) -> Decision {
        let body = body::signal(taken.outcome, standing.version.version);
        self.refused(
            Some(standing),
            Some(standing.pin.clone()),
            StoredReceipt {
                kind: ReceiptKind::Accepted,
                fingerprint: self.envelope.fingerprint,
                version: Some(standing.version),
                body,
            },
            caused,
        )
    }

    pub(super) fn refuse(
        self,
        standing: Option<&Standing>,
        no: Rejection,
        caused: Cause,
    ) -> Decision {
        let pin = standing.map(|standing| standing.pin.clone());
        self.refuse_as(standing, pin, no, caused)
    }

    pub(super) fn refuse_start(self, pin: &Pin, no: Rejection, caused: Cause) -> Decision {
        self.refuse_as(None, Some(pin.clone()), no, caused)
    }

    fn refuse_as(
        self,
        standing: Option<&Standing>,
        pin: Option<Pin>,
        mut no: Rejection,
        caused: Cause,
    ) -> Decision {
        if let Some(standing) = standing {
            no.version = Some(standing.version);
            no.configuration = self.case.chart.map(|chart| rows::states(chart, &standing.snapshot));
        }
        let receipt = StoredReceipt {
            kind: ReceiptKind::Refused(no.code),
            fingerprint: self.envelope.fingerprint,
            version: standing.map(|standing| standing.version),
            body: self.render(&no),
        };
        self.refused(standing, pin, receipt, caused)
    }

    fn refused(
        self,
        standing: Option<&Standing>,
        definition: Option<Pin>,
        receipt: StoredReceipt,
        caused: Cause,
    ) -> Decision {
        let refused = Refused {
            target: Target::Instance(self.case.key.clone()),
            bucket_epoch: self.case.bucket_epoch,
            expect: Some(expect(standing)),
            definition,
            key: self.envelope.key.clone(),
            expected: self.envelope.expected,
            cause: caused,
            receipt,
            receipt_keep_ms: None,
        };
        let entry = Entry { header: self.header(), body: Body::Refused(Box::new(refused)) };
        Decision::Propose(Box::new(Draft { entry, next: None }))
    }

    pub(super) fn render(self, no: &Rejection) -> Json {
        no.render(&place(self.case.key), self.envelope.correlation.as_ref(), &self.envelope.trace)
    }
}
