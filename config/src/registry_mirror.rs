//! Where the Docker in a box asks for images of Docker Hub first.

use std::fmt;

use url::{Host, Url};

/// `https://HOST[:PORT]` or `http://HOST[:PORT]`. Nothing more: with a path or a password in it Docker would not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryMirror(Url);

/// Why a text is no such URL. Completes the sentence "the text …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryMirrorError {
    #[error("is not a URL: {0}")]
    Malformed(#[from] url::ParseError),
    #[error("begins neither with https:// nor with http://")]
    Scheme,
    #[error("has more than a host and a port, with which Docker would not start")]
    More,
}

impl RegistryMirror {
    /// # Errors
    /// A [`RegistryMirrorError`].
    pub fn parse(text: &str) -> Result<Self, RegistryMirrorError> {
        let url = Url::parse(text)?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(RegistryMirrorError::Scheme);
        }
        let credentials = !url.username().is_empty() || url.password().is_some();
        let behind_the_host = url.path() != "/" || url.query().is_some() || url.fragment().is_some();
        // A name is what it says; what is no name of the DNS ends up in files of the box, and in JSON.
        let named = match url.host() {
            Some(Host::Domain(name)) => {
                name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_'))
            }
            host => host.is_some(),
        };
        if credentials || behind_the_host || !named {
            return Err(RegistryMirrorError::More);
        }
        Ok(Self(url))
    }
}

impl fmt::Display for RegistryMirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("https://mirror.example.org", "https://mirror.example.org")]
    #[case("https://mirror.example.org/", "https://mirror.example.org")]
    #[case("http://10.0.0.7:5000", "http://10.0.0.7:5000")]
    fn mirrors(#[case] text: &str, #[case] shown: &str) {
        assert_eq!(RegistryMirror::parse(text).unwrap().to_string(), shown);
    }

    #[rstest]
    #[case("mirror.example.org")]
    #[case("ftp://mirror.example.org")]
    #[case("https://mirror.example.org/v2")]
    #[case("https://mirror.example.org?a=b")]
    #[case("https://mirror.example.org#a")]
    #[case("https://alice:secret@mirror.example.org")]
    #[case("https://mirror\".example.org")]
    #[case("https://")]
    fn what_docker_would_not_start_with(#[case] text: &str) {
        RegistryMirror::parse(text).unwrap_err();
    }
}
