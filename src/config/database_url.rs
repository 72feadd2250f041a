//! The database's address, with a password that cannot slip into a log.

use std::{fmt, str::FromStr};

use reqwest::Url;

/// A Postgres connection URL. `Debug` and `Display` leave out the password and every parameter.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(Url);

impl DatabaseUrl {
    /// The whole URL with its password: only for connecting.
    pub fn expose(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for DatabaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The parser's messages are fixed sentences: they never quote what they were given.
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err("its scheme is neither postgres nor postgresql".into());
        }
        if url.cannot_be_a_base() {
            return Err("`//` after the scheme is missing".into());
        }
        Ok(Self(url))
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.0.scheme())?;
        if !self.0.username().is_empty() {
            write!(f, "{}@", self.0.username())?;
        }
        f.write_str(self.0.host_str().unwrap_or_default())?;
        if let Some(port) = self.0.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(self.0.path())
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_password_nor_parameters_are_shown() {
        let text = "postgres://keeper:hunter2@db:5433/history?sslpassword=hunter2&password=hunter2";
        let url: DatabaseUrl = text.parse().expect("a valid URL");
        assert_eq!(url.to_string(), "postgres://keeper@db:5433/history");
        assert!(!format!("{url:?}").contains("hunter2"));
        assert_eq!(url.expose(), text);
    }

    #[test]
    fn a_socket_directory_is_accepted() {
        let url: DatabaseUrl = "postgres:///history?host=/run/postgresql".parse().expect("a valid URL");
        assert_eq!(url.to_string(), "postgres:///history");
    }
}
