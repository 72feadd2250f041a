//! What the floor program makes: the very objects that the operator makes, from the same renderer.

use std::collections::BTreeMap;
use std::error::Error;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Value, json};
use stagekeeper::api::conditions::{Outcome, conditions};
use stagekeeper::api::{DeployStatus, HistoryEntry, InstanceStatus, Project, Stage, StageStatus, labels};
use stagekeeper::domain::clock::{Clock as _, Ids as _, SystemClock, SystemIds};
use stagekeeper::domain::release::{Release, ReleaseImage};
use stagekeeper::render::{self, Identity, ServiceManifests, Snapshot, names};
use uuid::Uuid;

type Failure = Box<dyn Error + Send + Sync>;

/// A release in one stage.
pub struct Instance {
    snapshot: Snapshot,
    owner: OwnerReference,
    deploy: Uuid,
    service: String,
    /// Name of the instance, which depends on nothing but what it runs: whoever removes it need not look it up.
    name: String,
}

impl Instance {
    /// The release with this digest of the project's one service, in a stage.
    pub fn of(project: &Project, stage: &Stage, digest: &str) -> Result<Self, Failure> {
        let [service] = project.spec.services.as_slice() else {
            return Err("the floor knows projects of one service".into());
        };
        let image = ReleaseImage { repository: service.image.repository.clone(), tag: None, digest: digest.to_owned() };
        let identity = Identity {
            home: None,
            namespace: stage.namespace().unwrap_or_default(),
            project: project.name_any(),
            stage: stage.name_any(),
        };
        let release = Release([(service.name.clone(), image)].into_iter().collect());
        let snapshot = Snapshot::build(identity, &project.spec, &stage.spec, release, &BTreeMap::new())
            .map_err(|problems| format!("{problems:?}"))?;
        Ok(Self {
            owner: stage.controller_owner_ref(&()).ok_or("the stage has no identity")?,
            deploy: SystemIds.next(),
            service: service.name.clone(),
            name: snapshot.instance(),
            snapshot,
        })
    }

    /// Name of the Deployment and of the instance's own Service.
    pub fn object(&self) -> String {
        names::instance_service(&self.snapshot.identity.stage, &self.service, &self.name)
    }

    /// The instance's own Service.
    pub fn service(&self) -> Result<Service, Failure> {
        let service = self.render(BTreeMap::new())?.service;
        service.ok_or_else(|| "the service has no port".into())
    }

    /// The workload. Its pods are told the address of `service`, as it was created.
    pub fn deployment(&self, service: &Service) -> Result<Deployment, Failure> {
        let address = service.spec.as_ref().and_then(|spec| spec.cluster_ip.clone());
        let addresses = BTreeMap::from([(service.name_any(), address.unwrap_or_default())]);
        Ok(self.render(addresses)?.workload)
    }

    fn render(&self, service_ips: BTreeMap<String, String>) -> Result<ServiceManifests, Failure> {
        let context = render::Context {
            owner: self.owner.clone(),
            deploy: self.deploy,
            service_ips,
            credentials: std::sync::Arc::default(),
            edge: std::collections::BTreeMap::new(),
            fallback: None,
        };
        let rendered =
            render::instance(&self.snapshot, &self.name, &context).map_err(|problems| format!("{problems:?}"))?;
        let only = rendered.waves.into_iter().flat_map(|wave| wave.services).next();
        only.ok_or_else(|| "nothing was rendered".into())
    }

    /// Name of the stage's own Service.
    pub fn stage_service_name(&self) -> String {
        names::stage_service(&self.snapshot.identity.stage, &self.service)
    }

    /// The stage's own Service, with its traffic on this instance.
    pub fn stage_service(&self) -> Result<Service, Failure> {
        let mut service = self.service()?;
        service.metadata.name = Some(self.stage_service_name());
        if let Some(labels) = &mut service.metadata.labels {
            labels.remove(labels::INSTANCE);
        }
        Ok(service)
    }

    /// The patch that moves the stage's traffic here.
    pub fn switch(&self) -> Value {
        json!({"spec": {"selector": {labels::INSTANCE: self.name}}})
    }

    /// The status of a stage that runs this instance, and ran `before` until now.
    pub fn status(&self, before: Option<&Self>, generation: i64) -> StageStatus {
        let now = SystemClock.now();
        let ready =
            Outcome::Ready { reason: "Deployed", message: "The wanted release runs and has the traffic".to_owned() };
        let release = self.snapshot.release.id().to_string();
        StageStatus {
            observed_generation: generation,
            conditions: conditions(&[], &ready, generation, now),
            release: Some(release.clone()),
            images: Some(self.snapshot.release.images()),
            active: Some(self.name.clone()),
            deploy: Some(DeployStatus {
                id: self.deploy.to_string(),
                state: "Success".to_owned(),
                since: Some(now.into()),
                release: Some(release.clone()),
                actor: Some("policy".to_owned()),
                message: Some("The stage's traffic goes to the new instance".to_owned()),
                ..DeployStatus::default()
            }),
            instances: vec![InstanceStatus {
                name: self.name.clone(),
                status: "running".to_owned(),
                release: Some(release),
                deploy: Some(self.deploy.to_string()),
                active: true,
                ..InstanceStatus::default()
            }],
            history: std::iter::once(self)
                .chain(before)
                .map(|instance| HistoryEntry {
                    id: instance.deploy.to_string(),
                    state: "Success".to_owned(),
                    release: Some(instance.snapshot.release.id().to_string()),
                    images: Some(instance.snapshot.release.summary()),
                    finished_at: Some(now.into()),
                    actor: Some("policy".to_owned()),
                    ..HistoryEntry::default()
                })
                .collect(),
            ..StageStatus::default()
        }
    }
}
