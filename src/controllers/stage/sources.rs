//! Where each service's image comes from on this stage: pin over override over project.

use std::{sync::Arc, time::Duration};

use crate::{
    api::{ImageSource, Policy, ProjectSpec, StageSpec, TagOrder},
    controllers::images::{About, LoginRef, Question},
    domain::{
        image::{Digest, Platform, Repository},
        policy::{Order, PolicyError, PolicySpec, TagPolicy},
    },
    render::Identity,
};

/// Where one service's image comes from.
#[derive(Debug, Clone)]
pub struct Source {
    /// Name of the service.
    pub service: String,
    /// Its repository.
    pub repository: Repository,
    /// Whether plain HTTP is allowed.
    pub insecure: bool,
    /// As whom its registry is asked.
    pub login: Option<LoginRef>,
    /// The platform that it must have.
    pub platform: Option<Platform>,
    /// How much of its tags may be gone at once, in percent.
    pub max_tag_loss: u8,
    /// Which of the repository's images.
    pub which: Which,
    /// Whether a person fixed it on this stage: explicit, and so stronger than a veto.
    pub pinned: bool,
}

/// Which of a repository's images.
#[derive(Debug, Clone)]
pub enum Which {
    /// The newest by policy.
    Policy(Box<NamedPolicy>, Duration),
    /// Whatever this tag points to, looked at again and again.
    Follow(String, Duration),
    /// What this tag points to, looked up once.
    Tag(String),
    /// Exactly this.
    Digest(Digest),
}

/// A policy, and what tells it from others: how it was written.
#[derive(Debug, Clone)]
pub struct NamedPolicy {
    /// How it was written, whole.
    pub name: Arc<str>,
    /// What it says.
    pub policy: TagPolicy,
}

impl NamedPolicy {
    /// Checks a policy as somebody wrote it.
    ///
    /// # Errors
    /// Those of [`TagPolicy::parse`].
    pub fn parse(spec: &PolicySpec) -> Result<Self, PolicyError> {
        Ok(Self { name: format!("{spec:?}").into(), policy: TagPolicy::parse(spec)? })
    }
}

/// A field that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Path of the field.
    pub field: String,
    /// What is wrong with it, and the way out.
    pub message: String,
}

/// The sources of every service, or everything that is wrong with them. Names that the project does not have are
/// [`crate::render::Snapshot::problems`]'s to find.
pub fn sources(identity: &Identity, project: &ProjectSpec, stage: &StageSpec) -> Result<Vec<Source>, Vec<Refused>> {
    let mut refused: Vec<Refused> = Vec::new();
    let mut sources = Vec::new();
    for service in &project.services {
        match source(identity, service, stage) {
            Ok(source) => sources.push(source),
            Err(problem) => refused.push(problem),
        }
    }
    if refused.is_empty() { Ok(sources) } else { Err(refused) }
}

fn source(identity: &Identity, service: &crate::api::Service, stage: &StageSpec) -> Result<Source, Refused> {
    let image = &service.image;
    let own = format!("project spec.services[{}].image", service.name);
    let refuse = |field: String| move |message: String| Refused { field, message };
    let repository: Repository = image
        .repository
        .parse()
        .map_err(|error: crate::domain::image::ImageError| refuse(format!("{own}.repository"))(error.to_string()))?;
    let platform = match &image.platform {
        Some(text) => {
            Some(text.parse::<Platform>().map_err(|error| refuse(format!("{own}.platform"))(error.to_string()))?)
        }
        None => None,
    };
    let over = stage.services.get(&service.name);
    let interval = image.interval.as_std();
    let (which, pinned) = if let Some(pin) = stage.pin.get(&service.name) {
        (fixed(pin).map_err(refuse(format!("spec.pin.{}", service.name)))?, true)
    } else if let Some(tag) = over.and_then(|over| over.tag.as_ref()) {
        (Which::Tag(tag.clone()), true)
    } else if let Some(digest) = over.and_then(|over| over.digest.as_ref()) {
        (fixed(digest).map_err(refuse(format!("spec.services.{}.digest", service.name)))?, true)
    } else if let Some(policy) = over.and_then(|over| over.policy.as_ref()) {
        let field = format!("spec.services.{}.policy", service.name);
        (followed(policy, &image.ignore_tags, interval).map_err(refuse(field))?, false)
    } else {
        let which = match image.source() {
            Some(ImageSource::Policy(policy)) => {
                followed(policy, &image.ignore_tags, interval).map_err(refuse(format!("{own}.policy")))?
            }
            Some(ImageSource::Tag(tag)) => Which::Tag(tag.to_owned()),
            Some(ImageSource::Digest(digest)) => fixed(digest).map_err(refuse(format!("{own}.digest")))?,
            None => {
                return Err(refuse(own)("give exactly one of policy, tag and digest".into()));
            }
        };
        (which, false)
    };
    let login = image.credential.as_ref().map(|credential| LoginRef {
        namespace: identity.home().to_owned(),
        project: identity.project.clone(),
        credential: credential.clone(),
    });
    Ok(Source {
        service: service.name.clone(),
        repository,
        insecure: image.insecure,
        login,
        platform,
        max_tag_loss: image.max_tag_loss,
        which,
        pinned,
    })
}

/// A tag or a digest, told apart by the digest's prefix: a tag holds no colon.
fn fixed(text: &str) -> Result<Which, String> {
    if text.contains(':') {
        text.parse().map(Which::Digest).map_err(|error: crate::domain::image::ImageError| error.to_string())
    } else {
        Ok(Which::Tag(text.to_owned()))
    }
}

fn followed(policy: &Policy, ignore: &[String], interval: Duration) -> Result<Which, String> {
    let order = policy.order.map(|order| match order {
        TagOrder::Semver => Order::Semver,
        TagOrder::Numeric => Order::Numeric,
        TagOrder::Alphabetical => Order::Alphabetical,
    });
    let spec = PolicySpec {
        semver: policy.semver.clone(),
        glob: policy.glob.clone(),
        regex: policy.regex.clone(),
        extract: policy.extract.clone(),
        order,
        numeric: policy.numeric.unwrap_or_default(),
        newest: policy.newest.clone(),
        digest: policy.digest.clone(),
        ignore_tags: ignore.to_vec(),
    };
    let parsed = NamedPolicy::parse(&spec).map_err(|error| error.to_string())?;
    Ok(match parsed.policy.followed_tag() {
        Some(tag) => Which::Follow(tag.to_owned(), interval),
        None => Which::Policy(Box::new(parsed), interval),
    })
}

impl Source {
    /// A question to its registry.
    pub fn question(&self, about: About) -> Question {
        Question { repository: self.repository.clone(), insecure: self.insecure, login: self.login.clone(), about }
    }

    /// Whether new images come by themselves.
    pub fn is_followed(&self) -> bool {
        matches!(self.which, Which::Policy(..) | Which::Follow(..))
    }
}
