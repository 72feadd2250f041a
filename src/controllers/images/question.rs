//! Questions to registries: about which repository, as whom, and what.

use crate::domain::image::{Digest, Platform, Repository};

/// A question to a registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question {
    /// The repository.
    pub repository: Repository,
    /// Whether plain HTTP was allowed.
    pub insecure: bool,
    /// As whom; nobody in particular if absent. Who may not read a repository learns nothing from who may.
    pub login: Option<LoginRef>,
    /// What is asked of it.
    pub about: About,
}

/// A credential, by where it belongs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoginRef {
    /// Namespace of its project.
    pub namespace: String,
    /// Name of its project.
    pub project: String,
    /// Its name.
    pub credential: String,
}

/// What is asked of a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum About {
    /// All its tags.
    Tags,
    /// What a tag points to, checked to have the platform.
    Tag(String, Option<Platform>),
    /// When the images of its tags were built, for the platform where one is given. Of which tags, the subscribers say.
    Dates(Option<Platform>),
}

impl About {
    /// One word for it, as it is stored.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Tags => "tags",
            Self::Tag(..) => "tag",
            Self::Dates(_) => "dates",
        }
    }

    /// The tag that is asked about.
    pub fn tag(&self) -> Option<&str> {
        match self {
            Self::Tag(tag, _) => Some(tag),
            Self::Tags | Self::Dates(_) => None,
        }
    }

    /// The platform that is asked about.
    pub fn platform(&self) -> Option<&Platform> {
        match self {
            Self::Tag(_, platform) | Self::Dates(platform) => platform.as_ref(),
            Self::Tags => None,
        }
    }
}

impl Question {
    /// What tells it from every other question: the name of its row.
    pub fn key(&self) -> Digest {
        let mut text = String::new();
        let mut part = |part: Option<&str>| match part {
            None => text.push('-'),
            Some(part) => {
                text.push_str(&part.len().to_string());
                text.push(':');
                text.push_str(part);
            }
        };
        part(Some(self.repository.registry()));
        part(Some(self.repository.path()));
        part(self.insecure.then_some("insecure"));
        let login = self.login.as_ref();
        part(login.map(|login| login.namespace.as_str()));
        part(login.map(|login| login.project.as_str()));
        part(login.map(|login| login.credential.as_str()));
        part(Some(self.about.word()));
        part(self.about.tag());
        part(self.about.platform().map(ToString::to_string).as_deref());
        Digest::of(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_every_part_apart_and_is_the_same_tomorrow() {
        let of = |namespace: &str, project: &str| {
            Some(LoginRef { namespace: namespace.into(), project: project.into(), credential: "ghcr".into() })
        };
        let amd64: Platform = "linux/amd64".parse().unwrap();
        let base = Question {
            repository: "r.test/shop/web".parse().unwrap(),
            insecure: false,
            login: None,
            about: About::Tags,
        };
        let all = [
            base.clone(),
            Question { repository: "r.test:80/shop/web".parse().unwrap(), ..base.clone() },
            Question { insecure: true, ..base.clone() },
            Question { login: of("a", "bc"), ..base.clone() },
            Question { login: of("ab", "c"), ..base.clone() },
            Question { about: About::Tag("tags".into(), None), ..base.clone() },
            Question { about: About::Tag("tags".into(), Some(amd64.clone())), ..base.clone() },
            Question { about: About::Dates(None), ..base.clone() },
            Question { about: About::Dates(Some(amd64)), ..base.clone() },
        ];
        let keys: std::collections::BTreeSet<Digest> = all.iter().map(Question::key).collect();
        assert_eq!(keys.len(), all.len());
        let today = "sha256:";
        assert_eq!(base.key().to_string(), Digest::of(b"6:r.test8:shop/web----4:tags--").to_string());
        assert!(base.key().to_string().starts_with(today));
    }
}
