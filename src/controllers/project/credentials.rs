//! A project's credentials and secrets: what its declarations copy from Kubernetes Secrets is put into the safe whenever it
//! changes there, and what is missing is said.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use kube::ResourceExt as _;

use super::{
    original,
    verdict::{Trouble, Verdict},
};
use crate::{
    api::{CredentialDeclaration, CredentialType, Project, SecretDeclaration, SecretRef},
    cluster::originals::{Content, Look},
    controllers::{context::Context, error::Error, vault::Holdings},
    domain::{actor::Actor, credential::CredentialKind, secret::SecretId},
    safe::{Deposit, Owner, Safe, SafeError, SecretDeposit},
};

/// Brings the safe up to what the project's declarations copy, and says how its credentials stand. The project has a row
/// afterwards, so that values can be stored for it.
pub async fn keep(ctx: &Context, project: &Project) -> Result<Verdict, Error> {
    let (namespace, name) = (project.namespace().unwrap_or_default(), project.name_any());
    let holdings = holdings(ctx, &namespace, &name).await?;
    let named: BTreeSet<String> = references(project).map(|of| of.name.clone()).collect();
    ctx.originals.want(&namespace, &name, &named);
    let mut verdict = Verdict::default();
    let Some(safe) = &ctx.safe else {
        if project.spec.needs_safe() {
            verdict.troubles.push(Trouble::no_keys());
        }
        return Ok(verdict);
    };
    let owner = Owner { project: holdings.project, namespace: &namespace, name: &name };
    let keeper = Keeper { ctx, safe, holdings: &holdings, owner };
    let mut copied = Vec::new();
    for declared in &project.spec.credentials {
        copied.push(keeper.credential(declared).await?);
    }
    for declared in &project.spec.secrets {
        copied.push(keeper.secret(declared).await?);
    }
    // Not every copy is told of: a Secret may have a new version and the same value.
    let now = if copied.iter().any(|one| matches!(one, Copied::Anew)) {
        again(ctx, &holdings, &namespace, &name).await?
    } else {
        holdings.clone()
    };
    for one in copied {
        verdict.note(one);
    }
    verdict.look_at(project, &now, ctx.clock.now());
    Ok(verdict)
}

/// Every Kubernetes Secret that the project names.
fn references(project: &Project) -> impl Iterator<Item = &SecretRef> {
    let credentials = project.spec.credentials.iter().map(|one| &one.secret_ref);
    credentials.chain(project.spec.secrets.iter().filter_map(|one| one.secret_ref.as_ref()))
}

/// What is known of the project, which has a row from now on.
pub(super) async fn holdings(ctx: &Context, namespace: &str, name: &str) -> Result<Arc<Holdings>, Error> {
    if let Some(holdings) = ctx.vault.of(namespace, name) {
        return Ok(holdings);
    }
    let row = ctx.store.project_upsert(ctx.ids.next(), namespace, name).await?;
    again(ctx, &Holdings::none(row.id).into(), namespace, name).await
}

/// What the database says of the project now.
pub(super) async fn again(
    ctx: &Context,
    before: &Arc<Holdings>,
    namespace: &str,
    name: &str,
) -> Result<Arc<Holdings>, Error> {
    if ctx.vault.reread(&ctx.store, before.project, |_| true).await?.is_some() {
        ctx.changed(&(namespace.to_owned(), name.to_owned()));
    }
    Ok(ctx.vault.of(namespace, name).unwrap_or_else(|| before.clone()))
}

struct Keeper<'a> {
    ctx: &'a Context,
    safe: &'a Safe,
    holdings: &'a Holdings,
    owner: Owner<'a>,
}

/// What became of a declaration that copies.
pub enum Copied {
    /// The safe has what the Secret has.
    Current,
    /// The same, since just now.
    Anew,
    /// The safe has what the Secret had when it was there.
    Kept,
    /// It does not work.
    Trouble(Trouble),
}

impl Keeper<'_> {
    async fn credential(&self, declared: &CredentialDeclaration) -> Result<Copied, Error> {
        let what = || format!("credential {}", declared.name);
        let known = self.holdings.credentials.get(&declared.name);
        let same = |origin: &str| {
            known.is_some_and(|known| {
                known.origin == origin && known.kind == kind(declared.type_) && known.expires_at == expires(declared)
            })
        };
        let stored = known.is_some_and(|known| original::is_from(&known.origin, &declared.secret_ref));
        let content = match self.original(&declared.secret_ref, &what(), stored, same).await? {
            Original::Read(content) => content,
            Original::Settled(copied) => return Ok(copied),
        };
        let read = match original::credential(declared, &content) {
            Ok(read) => read,
            Err(why) => return Ok(Copied::Trouble(Trouble::unusable(&what(), &declared.secret_ref, &why))),
        };
        let deposit = Deposit {
            name: &declared.name,
            kind: kind(declared.type_),
            value: &read.value,
            hosts: read.hosts,
            origin: original::origin(&declared.secret_ref, &content.version),
            expires_at: expires(declared),
            actor: Actor::Controller,
        };
        self.safe.put(&self.owner, &deposit).await.map_err(|error| unkept(&what(), error))?;
        Ok(Copied::Anew)
    }

    async fn secret(&self, declared: &SecretDeclaration) -> Result<Copied, Error> {
        let Some(of) = &declared.secret_ref else { return Ok(Copied::Current) };
        let id = SecretId { name: declared.name.clone(), service: declared.service.clone() };
        let what = || format!("secret {id}");
        let known = self.holdings.secrets.get(&id);
        let stored = known.is_some_and(|known| original::is_from(&known.origin, of));
        let same = |origin: &str| known.is_some_and(|known| known.origin == origin);
        let content = match self.original(of, &what(), stored, same).await? {
            Original::Read(content) => content,
            Original::Settled(copied) => return Ok(copied),
        };
        let value = match original::secret(declared, of, &content) {
            Ok(value) => value,
            Err(why) => return Ok(Copied::Trouble(Trouble::unusable(&what(), of, &why))),
        };
        let origin = original::origin(of, &content.version);
        let deposit = SecretDeposit { id: id.clone(), value: &value, origin, actor: Actor::Controller };
        self.safe.secrets_put(&self.owner, &[deposit]).await.map_err(|error| unkept(&what(), error))?;
        Ok(Copied::Anew)
    }

    /// The Secret, if what is stored is not what it has; else how things stand.
    async fn original(
        &self,
        of: &SecretRef,
        what: &str,
        stored: bool,
        same: impl Fn(&str) -> bool,
    ) -> Result<Original, Error> {
        let absent =
            || Original::Settled(if stored { Copied::Kept } else { Copied::Trouble(Trouble::absent(what, of)) });
        match self.ctx.originals.look(self.owner.namespace, &of.name) {
            Look::Present(version) if same(&original::origin(of, &version)) => {
                return Ok(Original::Settled(Copied::Current));
            }
            Look::Absent => return Ok(absent()),
            Look::Present(_) | Look::Unknown => {}
        }
        match self.ctx.originals.read(self.owner.namespace, &of.name).await {
            Ok(None) => Ok(absent()),
            Ok(Some(content)) if same(&original::origin(of, &content.version)) => {
                Ok(Original::Settled(Copied::Current))
            }
            Ok(Some(content)) => Ok(Original::Read(content)),
            Err(error) if Error::from(error.clone()).refusal().is_some() => {
                Ok(Original::Settled(Copied::Trouble(Trouble::unreadable(what, of, &error))))
            }
            Err(error) => Err(error.into()),
        }
    }
}

enum Original {
    Read(Content),
    Settled(Copied),
}

const fn kind(type_: CredentialType) -> CredentialKind {
    match type_ {
        CredentialType::Registry => CredentialKind::Registry,
        CredentialType::Webhook => CredentialKind::Webhook,
        CredentialType::Git => CredentialKind::Git,
        CredentialType::Cluster => CredentialKind::Cluster,
        CredentialType::Generic => CredentialKind::Generic,
    }
}

fn expires(declared: &CredentialDeclaration) -> Option<Timestamp> {
    declared.expires.as_ref().map(|time| time.0)
}

fn unkept(what: &str, error: SafeError) -> Error {
    match error {
        SafeError::Store(error) => error.into(),
        other => Error::Sealed { reason: "CredentialUnusable", message: format!("{what}: {other}") },
    }
}
