//! What pods may do: the floor that every container starts from, and the ceiling that no overlay goes above.
//!
//! The floor is Kubernetes' *restricted* Pod Security level, `runAsNonRoot` included, for every container: also for
//! sidecars that a pod template adds. An image that runs as root by default then fails at once with the kubelet's
//! plain sentence (`container has runAsNonRoot and image will run as root`). Leaving only that one rule out would
//! not make such images work: without capabilities they cannot change owners or users either, and would fail later
//! and obscurely. The way out is in `podTemplate`: a user id that the image supports (for `postgres`, `runAsUser: 999`
//! with `fsGroup: 999`, and `PGDATA` set to a folder below the mount, which it can own), or else `runAsNonRoot: false`
//! with the capabilities that the image needs.
//!
//! The ceiling is the *baseline* level: what would let a pod out of its sandbox (privileged, host namespaces, host
//! paths and ports, dangerous capabilities) is refused, because the operator creates pods for people who may not be
//! allowed to create such pods themselves.

use k8s_openapi::api::core::v1::{
    Capabilities, Container, PodSecurityContext, PodSpec, PodTemplateSpec, SeccompProfile, SecurityContext,
};

/// Capabilities that the baseline level lets a container add.
const ADDABLE: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Kernel settings that the baseline level lets a pod change.
const SAFE_SYSCTLS: [&str; 9] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
];

/// Fills in what the pod template leaves open, with the strictest value. What an overlay set stays.
pub(super) fn fill(pod: &mut PodSpec) {
    pod.automount_service_account_token.get_or_insert(false);
    let context = pod.security_context.get_or_insert_with(PodSecurityContext::default);
    context.run_as_non_root.get_or_insert(true);
    context
        .seccomp_profile
        .get_or_insert_with(|| SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None });
    let init = pod.init_containers.iter_mut().flatten();
    for container in pod.containers.iter_mut().chain(init) {
        let context = container.security_context.get_or_insert_with(SecurityContext::default);
        context.allow_privilege_escalation.get_or_insert(false);
        let capabilities = context.capabilities.get_or_insert_with(Capabilities::default);
        capabilities.drop.get_or_insert_with(|| vec!["ALL".into()]);
    }
}

/// Fields above the ceiling, as path below the pod template and what is wrong.
pub(super) fn violations(template: &PodTemplateSpec) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let annotations = template.metadata.iter().flat_map(|meta| meta.annotations.iter().flatten());
    for (key, value) in annotations {
        if key.starts_with("container.apparmor.security.beta.kubernetes.io/") && value == "unconfined" {
            found.push((format!("metadata.annotations[{key}]"), "turns AppArmor off".to_owned()));
        }
    }
    if let Some(pod) = &template.spec {
        pod_violations(pod, &mut found);
        let init = pod.init_containers.iter().flatten().map(|it| ("initContainers", it));
        for (list, container) in pod.containers.iter().map(|it| ("containers", it)).chain(init) {
            let path = format!("spec.{list}[{}]", container.name);
            container_violations(container, pod, &path, &mut found);
        }
    }
    found
}

fn pod_violations(pod: &PodSpec, found: &mut Vec<(String, String)>) {
    let mut refuse = |path: &str, what: &str| found.push((format!("spec.{path}"), what.to_owned()));
    for (field, value) in [("hostNetwork", pod.host_network), ("hostPID", pod.host_pid), ("hostIPC", pod.host_ipc)] {
        if value == Some(true) {
            refuse(field, "shares the node's namespace");
        }
    }
    for volume in pod.volumes.iter().flatten() {
        if volume.host_path.is_some() {
            refuse(&format!("volumes[{}].hostPath", volume.name), "mounts files of the node");
        }
    }
    let Some(context) = &pod.security_context else {
        return;
    };
    for sysctl in context.sysctls.iter().flatten() {
        if !SAFE_SYSCTLS.contains(&sysctl.name.as_str()) {
            refuse(&format!("securityContext.sysctls[{}]", sysctl.name), "changes a setting of the node's kernel");
        }
    }
    if is_unconfined(context.seccomp_profile.as_ref().map(|it| it.type_.as_str())) {
        refuse("securityContext.seccompProfile", "turns seccomp off");
    }
    if is_unconfined(context.app_armor_profile.as_ref().map(|it| it.type_.as_str())) {
        refuse("securityContext.appArmorProfile", "turns AppArmor off");
    }
    if context.se_linux_options.as_ref().is_some_and(|it| it.user.is_some() || it.role.is_some()) {
        refuse("securityContext.seLinuxOptions", "chooses a SELinux user or role");
    }
    if context.windows_options.as_ref().is_some_and(|it| it.host_process == Some(true)) {
        refuse("securityContext.windowsOptions.hostProcess", "runs as a process of the node");
    }
}

fn container_violations(container: &Container, pod: &PodSpec, path: &str, found: &mut Vec<(String, String)>) {
    let mut refuse = |field: &str, what: &str| found.push((format!("{path}.{field}"), what.to_owned()));
    for port in container.ports.iter().flatten() {
        if port.host_port.is_some_and(|port| port != 0) {
            refuse("ports[].hostPort", "opens a port of the node");
        }
    }
    let Some(context) = &container.security_context else {
        return;
    };
    if context.privileged == Some(true) {
        refuse("securityContext.privileged", "gives the container the whole node");
    }
    let added = context.capabilities.iter().flat_map(|it| it.add.iter().flatten());
    for capability in added.filter(|name| !ADDABLE.contains(&name.as_str())) {
        refuse("securityContext.capabilities.add", &format!("adds {capability}, which reaches beyond the container"));
    }
    if context.proc_mount.as_ref().is_some_and(|it| it != "Default") {
        refuse("securityContext.procMount", "unmasks /proc");
    }
    if is_unconfined(context.seccomp_profile.as_ref().map(|it| it.type_.as_str())) {
        refuse("securityContext.seccompProfile", "turns seccomp off");
    }
    if is_unconfined(context.app_armor_profile.as_ref().map(|it| it.type_.as_str())) {
        refuse("securityContext.appArmorProfile", "turns AppArmor off");
    }
    if context.se_linux_options.as_ref().is_some_and(|it| it.user.is_some() || it.role.is_some()) {
        refuse("securityContext.seLinuxOptions", "chooses a SELinux user or role");
    }
    if context.windows_options.as_ref().is_some_and(|it| it.host_process == Some(true)) {
        refuse("securityContext.windowsOptions.hostProcess", "runs as a process of the node");
    }
    let of_pod = pod.security_context.as_ref();
    let user = context.run_as_user.or(of_pod.and_then(|it| it.run_as_user));
    let non_root = context.run_as_non_root.or(of_pod.and_then(|it| it.run_as_non_root));
    if user == Some(0) && non_root == Some(true) {
        refuse(
            "securityContext.runAsUser",
            "is 0 while runAsNonRoot is true, which no node starts; set runAsNonRoot to false as well",
        );
    }
}

fn is_unconfined(profile: Option<&str>) -> bool {
    profile == Some("Unconfined")
}
