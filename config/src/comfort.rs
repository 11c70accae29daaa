//! What makes a box feel like one's own machine: time zone, locale, dotfiles, a shell that outlives its connection.
//!
//! Each of these is handed to boxes as it is, so nothing but what its type lets through may be in it.

use std::fmt;

use jiff::tz::TimeZoneDatabase;
use url::Url;

/// Settings of a box's own system and of its user's shell. What is none is as the image has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comfort {
    pub timezone: Option<TimeZone>,
    pub locale: Option<Locale>,
    pub dotfiles: Option<Dotfiles>,
    /// Whether a login finds the shell again that a lost connection left.
    pub persist: Option<bool>,
}

/// A name of the IANA time zone database, as the database writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeZone(String);

/// A glibc locale whose characters are UTF-8: `de_DE.UTF-8`, `ca_ES.UTF-8@valencia`, `C.UTF-8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locale(String);

/// Where the files come from that a new home gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dotfiles {
    /// From nowhere, whatever a wider setting says.
    None,
    From(DotfilesUrl),
}

/// A git repository: an `https://` URL without a password in it, or a `file:///` one of a directory in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DotfilesUrl(Url);

/// Why a text is none of these. Completes the sentence "the text …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComfortError {
    #[error("is not in the IANA time zone database")]
    UnknownTimeZone,
    #[error("is not the name of a UTF-8 locale")]
    NotALocale,
    #[error("is not a URL: {0}")]
    Malformed(#[from] url::ParseError),
    #[error("begins neither with https:// nor with file:///: what is fetched is run in the box")]
    Scheme,
    #[error("holds a user name or a password, and this file is no place for one")]
    Credentials,
}

impl Comfort {
    pub(crate) fn overridden(self, by: &Self) -> Self {
        Self {
            timezone: by.timezone.clone().or(self.timezone),
            locale: by.locale.clone().or(self.locale),
            dotfiles: by.dotfiles.clone().or(self.dotfiles),
            persist: by.persist.or(self.persist),
        }
    }
}

impl TimeZone {
    /// Capital letters need not be right.
    ///
    /// # Errors
    /// [`ComfortError::UnknownTimeZone`].
    pub fn parse(name: &str) -> Result<Self, ComfortError> {
        // The database that came with this program: whether a name is good must not depend on the host.
        let found = TimeZoneDatabase::bundled().get(name).map_err(|_| ComfortError::UnknownTimeZone)?;
        found.iana_name().map(|name| Self(name.to_owned())).ok_or(ComfortError::UnknownTimeZone)
    }
}

impl Locale {
    /// # Errors
    /// [`ComfortError::NotALocale`].
    pub fn parse(name: &str) -> Result<Self, ComfortError> {
        let (rest, modifier) = match name.split_once('@') {
            Some((rest, modifier)) => (rest, Some(modifier)),
            None => (name, None),
        };
        let place = rest.strip_suffix(".UTF-8").ok_or(ComfortError::NotALocale)?;
        let known = place == "C" || is_place(place);
        if known && modifier.is_none_or(|word| is_word(word, 1..=16, u8::is_ascii_lowercase)) {
            Ok(Self(name.to_owned()))
        } else {
            Err(ComfortError::NotALocale)
        }
    }
}

/// `de_DE`: a language of ISO 639 and a country of ISO 3166.
fn is_place(place: &str) -> bool {
    place.split_once('_').is_some_and(|(language, country)| {
        is_word(language, 2..=3, u8::is_ascii_lowercase) && is_word(country, 2..=2, u8::is_ascii_uppercase)
    })
}

fn is_word(word: &str, length: std::ops::RangeInclusive<usize>, letter: fn(&u8) -> bool) -> bool {
    length.contains(&word.len()) && word.as_bytes().iter().all(letter)
}

impl DotfilesUrl {
    /// # Errors
    /// A [`ComfortError`].
    pub fn parse(text: &str) -> Result<Self, ComfortError> {
        let url = Url::parse(text)?;
        let of_a_server = url.scheme() == "https" && url.has_host();
        let of_the_image = url.scheme() == "file" && !url.has_host() && url.path().len() > 1;
        if !of_a_server && !of_the_image {
            return Err(ComfortError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ComfortError::Credentials);
        }
        Ok(Self(url))
    }
}

macro_rules! shown {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

shown!(TimeZone, Locale, DotfilesUrl);

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("Europe/Berlin", Some("Europe/Berlin"))]
    #[case("europe/berlin", Some("Europe/Berlin"))]
    #[case("UTC", Some("UTC"))]
    #[case("America/Argentina/Buenos_Aires", Some("America/Argentina/Buenos_Aires"))]
    #[case("Europe/Berln", None)]
    #[case("../../etc/shadow", None)]
    #[case("CEST-2", None)]
    #[case("", None)]
    fn time_zones(#[case] text: &str, #[case] name: Option<&str>) {
        assert_eq!(TimeZone::parse(text).ok().map(|zone| zone.to_string()).as_deref(), name);
    }

    #[rstest]
    #[case("de_DE.UTF-8", true)]
    #[case("ca_ES.UTF-8@valencia", true)]
    #[case("ast_ES.UTF-8", true)]
    #[case("C.UTF-8", true)]
    #[case("de_DE", false)]
    #[case("de_DE.ISO-8859-1", false)]
    #[case("de_DE.utf8", false)]
    #[case("german.UTF-8", false)]
    #[case("de_DE.UTF-8\nLC_ALL=x", false)]
    #[case("$(id).UTF-8", false)]
    #[case("de_DE.UTF-8@", false)]
    #[case("", false)]
    fn locales(#[case] text: &str, #[case] good: bool) {
        assert_eq!(Locale::parse(text).is_ok(), good);
    }

    #[rstest]
    #[case("https://git.example.org/alice/dotfiles.git", None)]
    #[case("file:///usr/share/dotfiles", None)]
    #[case("http://git.example.org/dotfiles", Some(ComfortError::Scheme))]
    #[case("ssh://git@example.org/dotfiles", Some(ComfortError::Scheme))]
    #[case("ext::sh -c id", Some(ComfortError::Scheme))]
    #[case("file://server/dotfiles", Some(ComfortError::Scheme))]
    #[case("file:///", Some(ComfortError::Scheme))]
    #[case("https://alice:secret@example.org/dotfiles", Some(ComfortError::Credentials))]
    #[case("alice/dotfiles", Some(ComfortError::Malformed(url::ParseError::RelativeUrlWithoutBase)))]
    fn repositories(#[case] text: &str, #[case] fault: Option<ComfortError>) {
        assert_eq!(DotfilesUrl::parse(text).err(), fault);
    }
}
