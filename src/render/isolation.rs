//! The namespace that an environment has to itself, and what it may do in there.
//!
//! It takes what comes from its own pods and from where the operator and its proxy run. It may ask the cluster's DNS and the
//! world outside, but nothing else inside the cluster or on the nodes' networks, above all not the cloud's metadata service.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::{LimitRange, LimitRangeItem, LimitRangeSpec, Namespace, ResourceQuota, ResourceQuotaSpec},
        networking::v1::{
            IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
            NetworkPolicyPort, NetworkPolicySpec,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

use super::{meta::content_hash, names};
use crate::api::labels;

/// Name of the objects that isolate an environment, each of its kind.
const NAME: &str = "environment";

/// The label that every namespace has with its own name.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Longest name of a namespace.
const MAX: usize = 63;

/// Addresses that are not the world outside: private, shared, loopback, link-local, multicast and reserved ones
/// (RFC 6890, RFC 4193, RFC 4291).
const INSIDE_V4: [&str; 8] = [
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "224.0.0.0/4",
    "240.0.0.0/4",
];
const INSIDE_V6: [&str; 4] = ["::1/128", "fc00::/7", "fe80::/10", "ff00::/8"];

/// What a pod gets that asks for nothing where there is a quota, which wants every pod to ask.
const DEFAULTS: [(&str, &str, &str); 2] = [("cpu", "50m", "1"), ("memory", "64Mi", "512Mi")];

/// Whose namespace it is.
#[derive(Debug, Clone, Copy)]
pub struct Occupant<'a> {
    /// Namespace of the Environment.
    pub home: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its UID: another Environment of that name has another namespace.
    pub uid: &'a str,
    /// Its project.
    pub project: &'a str,
    /// Where the operator and its proxy run.
    pub operator: &'a str,
    /// Where else its requests come from: namespaces of an Ingress controller or a Gateway.
    pub routers: &'a [String],
}

/// A namespace and what is in it before anything else.
#[derive(Debug, Clone, PartialEq)]
pub struct Isolation {
    /// The namespace. Its mark says that all of this is there.
    pub namespace: Namespace,
    /// The most that it may ask for; none where nothing is declared.
    pub quota: Option<ResourceQuota>,
    /// What pods get that ask for nothing.
    pub limits: LimitRange,
    /// Who may talk with whom.
    pub network: NetworkPolicy,
}

impl Isolation {
    /// What the namespace carries when all of this is there.
    pub fn mark(&self) -> Option<&str> {
        super::rendered(&self.namespace)
    }
}

/// The name of an environment's own namespace: as the subdomain is never given out again, neither is this.
pub fn place(project: &str, subdomain: &str) -> String {
    let room = MAX.saturating_sub(subdomain.len() + 1);
    let project: String = project.chars().take(room).collect();
    format!("{}-{subdomain}", project.trim_end_matches('-'))
}

/// The namespace of an environment, with these limits.
pub fn isolation(place: &str, occupant: &Occupant<'_>, quota: &BTreeMap<String, String>) -> Isolation {
    let all = BTreeMap::from([
        (labels::MANAGED_BY.to_owned(), labels::FIELD_MANAGER.to_owned()),
        (labels::PROJECT.to_owned(), occupant.project.to_owned()),
        (labels::HOME.to_owned(), occupant.home.to_owned()),
        (labels::ENVIRONMENT.to_owned(), occupant.name.to_owned()),
    ]);
    let inside = || ObjectMeta {
        name: Some(NAME.into()),
        namespace: Some(place.to_owned()),
        labels: Some(all.clone()),
        ..ObjectMeta::default()
    };
    let hard: BTreeMap<String, Quantity> =
        quota.iter().map(|(name, amount)| (name.clone(), Quantity(amount.clone()))).collect();
    let quota = (!hard.is_empty()).then(|| ResourceQuota {
        metadata: inside(),
        spec: Some(ResourceQuotaSpec { hard: Some(hard), ..ResourceQuotaSpec::default() }),
        status: None,
    });
    let limits = limits(inside());
    let network = network(inside(), occupant);
    let mut labelled = all.clone();
    for level in ["enforce", "audit", "warn"] {
        labelled.insert(format!("pod-security.kubernetes.io/{level}"), "restricted".into());
    }
    let mut annotations = BTreeMap::from([(UID.to_owned(), occupant.uid.to_owned())]);
    let whole = content_hash(&(&labelled, &annotations, &quota, &limits, &network));
    annotations.insert(labels::RENDERED.to_owned(), names::revision(&whole));
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(place.to_owned()),
            labels: Some(labelled),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    Isolation { namespace, quota, limits, network }
}

/// Annotation of the namespace: UID of the Environment that it was made for.
pub const UID: &str = "stagekeeper.dev/environment-uid";

fn limits(metadata: ObjectMeta) -> LimitRange {
    let amounts = |pick: fn(&(&'static str, &'static str, &'static str)) -> &'static str| {
        let amount = |row| Quantity(pick(row).to_owned());
        DEFAULTS.iter().map(|row| (row.0.to_owned(), amount(row))).collect::<BTreeMap<_, _>>()
    };
    let item = LimitRangeItem {
        type_: "Container".into(),
        default_request: Some(amounts(|row| row.1)),
        default: Some(amounts(|row| row.2)),
        ..LimitRangeItem::default()
    };
    LimitRange { metadata, spec: Some(LimitRangeSpec { limits: vec![item] }) }
}

fn network(metadata: ObjectMeta, occupant: &Occupant<'_>) -> NetworkPolicy {
    let own = || NetworkPolicyPeer { pod_selector: Some(LabelSelector::default()), ..NetworkPolicyPeer::default() };
    let namespace = |name: &str| NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector {
            match_labels: Some(BTreeMap::from([(NAMESPACE_NAME.to_owned(), name.to_owned())])),
            ..LabelSelector::default()
        }),
        ..NetworkPolicyPeer::default()
    };
    let block = |cidr: &str, except: &[&str]| NetworkPolicyPeer {
        ip_block: Some(IPBlock {
            cidr: cidr.to_owned(),
            except: Some(except.iter().map(|one| (*one).to_owned()).collect()),
        }),
        ..NetworkPolicyPeer::default()
    };
    let port = |protocol: &str| NetworkPolicyPort {
        port: Some(IntOrString::Int(53)),
        protocol: Some(protocol.to_owned()),
        ..NetworkPolicyPort::default()
    };
    let routers = occupant.routers.iter().map(|name| namespace(name));
    let callers = [own(), namespace(occupant.operator)].into_iter().chain(routers).collect();
    NetworkPolicy {
        metadata,
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector::default()),
            policy_types: Some(vec!["Ingress".into(), "Egress".into()]),
            ingress: Some(vec![NetworkPolicyIngressRule { from: Some(callers), ports: None }]),
            egress: Some(vec![
                NetworkPolicyEgressRule { to: Some(vec![own()]), ports: None },
                NetworkPolicyEgressRule {
                    to: Some(vec![namespace("kube-system")]),
                    ports: Some(vec![port("UDP"), port("TCP")]),
                },
                NetworkPolicyEgressRule {
                    to: Some(vec![block("0.0.0.0/0", &INSIDE_V4), block("::/0", &INSIDE_V6)]),
                    ports: None,
                },
            ]),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHO: Occupant<'static> =
        Occupant { home: "acme", name: "pr-42", uid: "u-1", project: "shop", operator: "stagekeeper", routers: &[] };

    #[test]
    fn the_namespace_is_named_after_what_nobody_else_gets() {
        assert_eq!(place("shop", "pr-42-a8f9d2k1p4m7"), "shop-pr-42-a8f9d2k1p4m7");
        let long = place(&"a".repeat(40), &format!("{}-a8f9d2k1p4m7", "b".repeat(24)));
        assert_eq!(long.len(), 63);
        assert!(long.ends_with("-a8f9d2k1p4m7"), "{long}");
    }

    #[test]
    fn its_mark_changes_with_anything_in_it() {
        let quota = |memory: &str| BTreeMap::from([("requests.memory".to_owned(), memory.to_owned())]);
        let plain = isolation("shop-x", &WHO, &BTreeMap::new());
        let small = isolation("shop-x", &WHO, &quota("1Gi"));
        let large = isolation("shop-x", &WHO, &quota("2Gi"));
        let other = isolation("shop-x", &Occupant { uid: "u-2", ..WHO }, &BTreeMap::new());
        let routers = ["ingress".to_owned()];
        let open = isolation("shop-x", &Occupant { routers: &routers, ..WHO }, &BTreeMap::new());
        let marks: std::collections::BTreeSet<_> =
            [&plain, &small, &large, &other, &open].map(|one| one.mark().map(str::to_owned)).into();
        assert_eq!(marks.len(), 5);
        let callers = |one: &Isolation| one.network.spec.clone()?.ingress?.pop()?.from.map(|from| from.len());
        assert_eq!((callers(&plain), callers(&open)), (Some(2), Some(3)));
        assert_eq!(isolation("shop-x", &WHO, &quota("1Gi")), small);
        assert_eq!(plain.quota, None);
    }

    #[test]
    fn it_is_restricted_and_reaches_nothing_inside() {
        let made = isolation("shop-x", &WHO, &BTreeMap::new());
        let labels = made.namespace.metadata.labels.unwrap_or_default();
        assert_eq!(labels.get("pod-security.kubernetes.io/enforce").map(String::as_str), Some("restricted"));
        let spec = made.network.spec.expect("a spec");
        let blocks = spec.egress.into_iter().flatten().flat_map(|rule| rule.to.unwrap_or_default());
        let except: Vec<String> =
            blocks.filter_map(|peer| peer.ip_block).flat_map(|block| block.except.unwrap_or_default()).collect();
        for inside in ["169.254.0.0/16", "10.0.0.0/8", "fe80::/10", "127.0.0.0/8"] {
            assert!(except.iter().any(|one| one == inside), "{inside}");
        }
    }
}
