//! Where a person's keys can be fetched: an HTTPS address and nothing else, since whoever answers lets people in.

use std::fmt;

use url::Url;

/// Longest GitHub user name.
const GITHUB_NAME_MAX: usize = 39;

/// An `https://` URL without a password in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyUrl(Url);

/// Why a text is no such URL. Completes the sentence "the URL …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyUrlError {
    #[error("is not a URL: {0}")]
    Malformed(#[from] url::ParseError),
    #[error("does not begin with https://, so anyone on the way could put her own key there")]
    NotHttps,
    #[error("holds a user name or a password, and this file is no place for one")]
    Credentials,
    #[error("is not the name of a GitHub user")]
    GithubName,
}

impl KeyUrl {
    /// # Errors
    /// A [`KeyUrlError`].
    pub fn parse(text: &str) -> Result<Self, KeyUrlError> {
        let mut url = Url::parse(text)?;
        if url.scheme() != "https" || url.host().is_none() {
            return Err(KeyUrlError::NotHttps);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(KeyUrlError::Credentials);
        }
        url.set_fragment(None);
        Ok(Self(url))
    }

    /// Where GitHub publishes the keys of its user `name`.
    ///
    /// # Errors
    /// [`KeyUrlError::GithubName`].
    pub fn of_github(name: &str) -> Result<Self, KeyUrlError> {
        let in_use = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        if name.is_empty() || name.len() > GITHUB_NAME_MAX || !name.bytes().all(in_use) {
            return Err(KeyUrlError::GithubName);
        }
        Self::parse(&format!("https://github.com/{name}.keys"))
    }

    #[must_use]
    pub fn as_url(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for KeyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("http://example.org/alice.keys")]
    #[case("file:///etc/passwd")]
    #[case("https://alice:secret@example.org/keys")]
    #[case("example.org/alice.keys")]
    #[case("https://")]
    fn only_https_without_credentials(#[case] text: &str) {
        KeyUrl::parse(text).unwrap_err();
    }

    #[rstest]
    #[case("alice", Some("https://github.com/alice.keys"))]
    #[case("octo-cat", Some("https://github.com/octo-cat.keys"))]
    #[case("../settings", None)]
    #[case("alice?x", None)]
    #[case("", None)]
    fn github_names(#[case] name: &str, #[case] url: Option<&str>) {
        assert_eq!(KeyUrl::of_github(name).ok().map(|url| url.to_string()).as_deref(), url);
    }
}
