//! W3C Trace Context as plain data.
//!
//! The context travels in the envelope and is stored in the entry, so that history can point to a trace
//! years later. Absent on purpose: spans. `telemetry` turns this into one and back.

use std::fmt;

use bincode::{Decode, Encode};

/// A position in a trace: what `traceparent` and `tracestate` carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct TraceContext {
    /// The trace; all zero means "no trace".
    pub trace: [u8; 16],
    /// The span that is the parent of whatever comes next.
    pub span: [u8; 8],
    /// The W3C flags; bit 0 says that the trace is sampled.
    pub flags: u8,
    /// The vendor part, carried along unread; at most 512 bytes.
    pub state: Option<Box<str>>,
}

const STATE_BYTES_MAX: usize = 512;

impl TraceContext {
    /// Reads a `traceparent` header (version 00 of W3C Trace Context) and its `tracestate`.
    ///
    /// Returns nothing when the header is not valid: the specification asks to start a new trace then.
    #[must_use]
    pub fn parse(parent: &str, state: Option<&str>) -> Option<Self> {
        let mut parts = parent.split('-');
        let (version, trace, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if version.len() != 2 || version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let context = Self {
            trace: hex(trace)?,
            span: hex(span)?,
            flags: u8::from_be_bytes(hex(flags)?),
            state: state
                .filter(|text| {
                    text.len() <= STATE_BYTES_MAX
                        && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
                })
                .map(Into::into),
        };
        let _: [u8; 1] = hex(version)?;
        (context.trace != [0; 16] && context.span != [0; 8]).then_some(context)
    }

    /// Returns whether there is a trace at all.
    #[must_use]
    pub fn is_some(&self) -> bool {
        self.trace != [0; 16]
    }

    /// Returns whether the trace is sampled.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }

    /// Returns the trace id as 32 hexadecimal digits, or nothing when there is no trace.
    #[must_use]
    pub fn trace_id(&self) -> Option<String> {
        self.is_some().then(|| self.trace.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// Writes the `traceparent` header.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        self.trace.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("-")?;
        self.span.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "-{:02x}", self.flags)
    }
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let bytes = text.as_bytes();
    if bytes.len() != 2 * N || !bytes.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_header_is_read_and_written_back() {
        let context = TraceContext::parse(PARENT, Some("a=b")).unwrap();
        assert_eq!(context.to_string(), PARENT);
        assert!(context.is_sampled());
        assert_eq!(context.trace_id().unwrap(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.state.as_deref(), Some("a=b"));
    }

    #[test]
    fn garbage_means_no_trace() {
        let zero = format!("00-{}-{}-01", "0".repeat(32), "0".repeat(16));
        for text in ["", "00", &zero, &PARENT.replace("00-4", "ff-4"), &PARENT.to_uppercase(), "é"]
        {
            assert_eq!(TraceContext::parse(text, None), None, "{text}");
        }
        assert_eq!(TraceContext::default().trace_id(), None);
    }
}
