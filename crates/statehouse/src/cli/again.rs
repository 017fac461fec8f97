//! The flag of every verb that may be repeated under its key.
//!
//! A verb whose answer did not arrive says which key it used; giving that key again gets the answer, or does it for the
//! first time, and never does it twice.
//!
//! Deliberately absent: a default. A verb without the flag gets a new key from the client.

use clap::Args;

use statehouse_sdk::Request;

/// `--key`.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Again {
    /// Idempotency key; left out: a new one.
    #[arg(long, value_parser = super::key_text)]
    key: Option<String>,
}

impl Again {
    /// Puts the key on a request, if one was given.
    pub(crate) fn on(&self, request: Request) -> Request {
        request.keyed(self.key.as_deref())
    }
}
