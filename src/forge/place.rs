//! A repository at a git provider, and the URLs of its API.

use reqwest::Url;

use super::ForgeError;
use crate::{
    domain::pull_request::Provider,
    outbound::guard::{self, Reach, Refused},
};

/// A repository at a git provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    provider: Provider,
    repository: String,
    base: Url,
}

impl Place {
    /// The repository at the API of this address; left out, that of github.com or gitlab.com.
    ///
    /// # Errors
    /// The address cannot be used, or none is known.
    pub fn new(provider: Provider, api: Option<&str>, repository: &str) -> Result<Self, ForgeError> {
        let usual = match provider {
            Provider::GitHub => Some("https://api.github.com"),
            Provider::GitLab => Some("https://gitlab.com/api/v4"),
            Provider::Gitea => None,
        };
        let text = api.or(usual).ok_or_else(|| ForgeError::Address {
            why: "it is left out, and Gitea has no usual address: name it, such as https://git.example.com/api/v1"
                .into(),
        })?;
        let wrong = |why: &str| ForgeError::Address { why: why.to_owned() };
        let base = Url::parse(&format!("{}/", text.trim_end_matches('/'))).map_err(|_| wrong("it is no URL"))?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(wrong("expected an http or https URL"));
        }
        if !base.username().is_empty()
            || base.password().is_some()
            || base.query().is_some()
            || base.fragment().is_some()
        {
            return Err(wrong("expected a URL without credentials, query and fragment"));
        }
        let place = Self { provider, repository: repository.to_owned(), base };
        guard::literal(&place.base, Reach::Named).map_err(|Refused(why)| ForgeError::AddressRefused {
            provider,
            repository: place.repository.clone(),
            why,
        })?;
        Ok(place)
    }

    /// Whose API.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// The repository.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    pub(super) fn host(&self) -> String {
        let port = self.base.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}{port}", self.base.host_str().unwrap_or_default())
    }

    /// The URL of something of the repository: parts of a path, each of which is one segment whatever it holds.
    pub(super) fn url(&self, parts: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty();
            match self.provider {
                Provider::GitLab => {
                    path.push("projects").push(&self.repository);
                }
                Provider::GitHub | Provider::Gitea => {
                    path.push("repos").extend(self.repository.split('/'));
                }
            }
            path.extend(parts);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_provider_has_its_urls() {
        for (provider, api, repository, want) in [
            (Provider::GitHub, None, "acme/shop", "https://api.github.com/repos/acme/shop/pulls?state=open"),
            (
                Provider::GitHub,
                Some("https://git.test/api/v3/"),
                "acme/shop",
                "https://git.test/api/v3/repos/acme/shop/pulls?state=open",
            ),
            (
                Provider::GitLab,
                None,
                "acme/sub/shop",
                "https://gitlab.com/api/v4/projects/acme%2Fsub%2Fshop/pulls?state=open",
            ),
            (
                Provider::Gitea,
                Some("http://127.0.0.1:3000/api/v1"),
                "a/b",
                "http://127.0.0.1:3000/api/v1/repos/a/b/pulls?state=open",
            ),
        ] {
            let place = Place::new(provider, api, repository).unwrap();
            assert_eq!(place.url(&["pulls"], &[("state", "open")]).as_str(), want);
        }
    }

    #[test]
    fn addresses_that_cannot_be_used_are_refused_with_the_way_out() {
        for (api, want) in [
            (None, "name it, such as"),
            (Some("git.test"), "no URL"),
            (Some("ftp://git.test"), "http or https"),
            (Some("https://user:secret@git.test"), "without credentials"),
            (Some("https://git.test/?a=b"), "without credentials, query"),
            (Some("http://169.254.169.254/latest"), "link-local"),
        ] {
            let error = Place::new(Provider::Gitea, api, "a/b").unwrap_err().to_string();
            assert!(error.contains(want) && !error.contains("secret"), "{error}");
        }
    }
}
