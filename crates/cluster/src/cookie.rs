//! The cookie: a name tag that every node of a cluster shares.
//!
//! ractor_cluster asks for it at every session. It keeps clusters apart that were wired together by mistake; it is no
//! security (the digest is short and any holder may join), which is why links off loopback need certificates.
//!
//! Deliberately absent: a default, and any way to print it.

use std::{
    fmt, fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

const BYTES_MIN: usize = 16;
const BYTES_MAX: usize = 256;
/// The bits that let a group or everybody read a file.
const READABLE_BY_OTHERS: u32 = 0o044;

/// A cluster's shared name tag.
#[derive(Clone, PartialEq, Eq)]
pub struct Cookie(String);

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookie(…)")
    }
}

/// Why a cookie cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CookieError {
    /// The file cannot be read.
    #[error("cannot read the cookie in {path}; `statehouse cluster certs` makes one for all nodes")]
    Unread {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others can read the file.
    #[error("others can read the cookie in {path} (mode {mode:03o}); `chmod 600` it")]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The text is no cookie.
    #[error(
        "the cookie in {path} must be {BYTES_MIN} to {BYTES_MAX} visible ASCII characters, \
         the same on every node; it {problem}"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, without the text.
        problem: String,
    },
}

impl Cookie {
    /// Reads a cookie from its file; blank space around it does not count.
    ///
    /// # Errors
    /// Names the file and what to do, never the text.
    pub fn read(path: &Path) -> Result<Self, CookieError> {
        let unread = |source| CookieError::Unread { path: path.to_owned(), source };
        let found = fs::metadata(path).map_err(unread)?;
        let mode = found.permissions().mode() & 0o777;
        if mode & READABLE_BY_OTHERS != 0 {
            return Err(CookieError::Open { path: path.to_owned(), mode });
        }
        let malformed = |problem| CookieError::Malformed { path: path.to_owned(), problem };
        // Room for blank space around it, and no more: the file may be anything.
        if found.len() > 2 * BYTES_MAX as u64 {
            return Err(malformed(format!("has a file of {} bytes", found.len())));
        }
        let bytes = fs::read(path).map_err(unread)?;
        Self::parse(&bytes).map_err(malformed)
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = bytes.trim_ascii();
        if !text.iter().all(u8::is_ascii_graphic) {
            return Err("has other characters".to_owned());
        }
        if !(BYTES_MIN..=BYTES_MAX).contains(&text.len()) {
            return Err(format!("has {}", text.len()));
        }
        Ok(Self(text.iter().copied().map(char::from).collect()))
    }

    #[cfg(test)]
    pub(crate) fn from_text(text: &str) -> Self {
        Self::parse(text.as_bytes()).unwrap()
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_visible_text_that_only_its_owner_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cookie");
        let said = |text: &str, mode: u32| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            Cookie::read(&path).map_err(|error| error.to_string())
        };
        let cookie = said("0123456789abcdef\n", 0o600).unwrap();
        assert_eq!(cookie.text(), "0123456789abcdef");
        assert!(!format!("{cookie:?}").contains("0123"));
        assert!(
            said("0123456789abcdef", 0o640).unwrap_err().contains("(mode 640); `chmod 600` it")
        );
        assert!(said("0123456789abcde", 0o600).unwrap_err().ends_with("it has 15"));
        assert!(said("0123456789 abcdef", 0o600).unwrap_err().ends_with("has other characters"));
        assert!(said(&"x".repeat(257), 0o600).unwrap_err().ends_with("it has 257"));
        assert!(said(&"x".repeat(600), 0o600).unwrap_err().ends_with("has a file of 600 bytes"));
        fs::remove_file(&path).unwrap();
        assert!(Cookie::read(&path).unwrap_err().to_string().contains("cluster certs"));
    }
}
