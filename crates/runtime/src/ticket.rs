//! The ticket of a postponed command: how its final answer finds the receipt that it settles.
//!
//! The chart keeps a ticket as plain text and hands it back when the command is taken or refused at last. It carries the
//! name of the receipt and the fingerprint of the request, so that settling needs no look-up and works on any leader.
//! Clients see the first part alone.
//!
//! Absent on purpose: the deadline; the chart keeps it with the event.

use statehouse_contract::{CommandEnvelope, Digest, KeyHash};

/// The name under which a postponed command is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// The receipt's name.
    pub key: KeyHash,
    /// The request's fingerprint, which the final receipt carries too.
    pub fingerprint: Digest,
}

const KEY_DIGITS: usize = 32;

impl Ticket {
    /// Returns the ticket of a command.
    #[must_use]
    pub(crate) fn of(envelope: &CommandEnvelope) -> Self {
        Self { key: envelope.key_hash(), fingerprint: envelope.fingerprint }
    }

    /// Returns the whole text, as the chart keeps it.
    #[must_use]
    pub(crate) fn text(&self) -> String {
        let mut text = String::with_capacity(KEY_DIGITS + 65);
        for byte in self.key.0 {
            text.push(digit(byte >> 4));
            text.push(digit(byte & 15));
        }
        text.push('.');
        text.push_str(&self.fingerprint.to_string());
        text
    }

    /// Reads the whole text.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (key, fingerprint) = text.split_once('.')?;
        if key.len() != KEY_DIGITS || !key.is_ascii() {
            return None;
        }
        let mut bytes = [0; KEY_DIGITS / 2];
        for (n, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(key.get(2 * n..2 * n + 2)?, 16).ok()?;
        }
        Some(Self { key: KeyHash(bytes), fingerprint: Digest::parse(fingerprint)? })
    }
}

/// Returns the part of a ticket's text that clients see.
#[must_use]
pub(crate) fn shown(ticket: &str) -> &str {
    ticket.split_once('.').map_or(ticket, |(key, _)| key)
}

fn digit(value: u8) -> char {
    char::from_digit(u32::from(value), 16).expect("four bits are one hexadecimal digit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_read_back_and_shows_only_its_name() {
        let ticket = Ticket { key: KeyHash([0xa7; 16]), fingerprint: Digest::of(b"request") };
        let text = ticket.text();
        assert_eq!(Ticket::parse(&text), Some(ticket));
        assert_eq!(shown(&text), "a7".repeat(16));
        for wrong in ["", "x", &text[1..], &text[..text.len() - 1], &text.replace('.', "")] {
            assert_eq!(Ticket::parse(wrong), None, "{wrong}");
        }
    }
}
