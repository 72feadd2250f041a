//! Every rule, with the sentence that people read. Long because it is one table.

use crate::render::fixture::Fixture;

/// A project and a stage that are right; each case breaks them in one place.
const RIGHT: &str = "
kind: Project
apiVersion: stagekeeper.dev/v1alpha1
metadata: {name: shop, namespace: acme}
spec:
  #project
  services:
  - name: web
    image: {repository: ghcr.io/acme/shop, policy: {semver: '*'}}
    ports: [{name: http, port: 8080}] #ports
    dependsOn: [db] #needs
    #web
  - name: db
    image: {repository: postgres, tag: '16'}
    ports: [{name: sql, port: 5432}]
    #db
---
kind: Stage
apiVersion: stagekeeper.dev/v1alpha1
metadata: {name: production, namespace: acme}
spec:
  project: shop
  #stage
";

struct Case {
    name: &'static str,
    /// Replacements of the marks above.
    breaks: &'static [(&'static str, &'static str)],
    want: &'static [&'static str],
}

fn broken(breaks: &[(&str, &str)]) -> Fixture {
    let mut text = RIGHT.to_owned();
    for (mark, with) in breaks {
        assert!(text.contains(mark), "{mark} is in the text");
        text = text.replace(mark, with);
    }
    Fixture::read(&text)
}

const CASES: &[Case] = &[
    Case { name: "nothing is wrong", breaks: &[], want: &[] },
    Case {
        name: "override of an unknown service",
        breaks: &[("#stage", "services: {wbe: {replicas: 2}}")],
        want: &[
            "Stage spec.services.wbe: project shop has no service `wbe`; it has web, db: correct the name, add the service to the Project, or remove this entry",
        ],
    },
    Case {
        name: "pin of an unknown service",
        breaks: &[("#stage", "pin: {api: '1.0'}")],
        want: &[
            "Stage spec.pin.api: project shop has no service `api`; it has web, db: correct the name, add the service to the Project, or remove this entry",
        ],
    },
    Case {
        name: "hook with an unknown service",
        breaks: &[("#stage", "hooks: {verify: [{name: smoke, service: api}]}")],
        want: &[
            "Stage spec.hooks.verify[smoke].service: project shop has no service `api`; it has web, db: correct the name, add the service to the Project, or remove this entry",
        ],
    },
    Case {
        name: "route to an unknown service",
        breaks: &[("#stage", "route: {host: a.b, service: api}")],
        want: &[
            "Stage spec.route.service: project shop has no service `api`; it has web, db: correct the name, add the service to the Project, or remove this entry",
        ],
    },
    Case {
        name: "everything wrong is told at once",
        breaks: &[("#stage", "services: {a: {}}\n  pin: {b: '1'}"), ("[db] #needs", "[c]")],
        want: &[
            "Stage spec.services.a: project shop has no service `a`; it has web, db: correct the name, add the service to the Project, or remove this entry",
            "Stage spec.pin.b: project shop has no service `b`; it has web, db: correct the name, add the service to the Project, or remove this entry",
            "Project spec.services[web].dependsOn: there is no service `c`; there are web, db: correct the name or add the service",
        ],
    },
    Case {
        name: "a circle",
        breaks: &[("#db", "dependsOn: [web]\n    scope: Instance")],
        want: &[
            "Project spec.services[web].dependsOn: services depend on each other in a circle: web → db → web: remove one of these dependencies",
        ],
    },
    Case {
        name: "a service that needs itself",
        breaks: &[("[db] #needs", "[web]")],
        want: &[
            "Project spec.services[web].dependsOn: services depend on each other in a circle: web → web: remove one of these dependencies",
        ],
    },
    Case {
        name: "the shared copy cannot need what each instance has its own of",
        breaks: &[("[db] #needs", "[]"), ("#db", "dependsOn: [web]")],
        want: &[
            "Project spec.services[db].dependsOn: db exists once per stage and cannot depend on web, of which every instance has its own: set scope: Instance for db, or scope: Stage for web",
        ],
    },
    Case {
        name: "health of an unknown port",
        breaks: &[("#web", "health: {http: {port: metrics}}")],
        want: &[
            "Project spec.services[web].health.http.port: service web has no port `metrics`: give the name of one of its ports, or add the port",
        ],
    },
    Case {
        name: "health without any port",
        breaks: &[("[{name: http, port: 8080}] #ports", "[]"), ("#web", "health: {tcp: {}}")],
        want: &[
            "Project spec.services[web].health.tcp.port: service web has no port to probe: add one to ports, or remove health",
        ],
    },
    Case {
        name: "our own variables",
        breaks: &[
            ("#web", "env: [{name: STAGEKEEPER_STAGE, value: x}]"),
            ("#stage", "services: {db: {env: [{name: STAGEKEEPER_X, value: x}]}}"),
        ],
        want: &[
            "Project spec.services[web].env[STAGEKEEPER_STAGE]: variables that begin with STAGEKEEPER_ are set by Stagekeeper: choose another name",
            "Stage spec.services.db.env[STAGEKEEPER_X]: variables that begin with STAGEKEEPER_ are set by Stagekeeper: choose another name",
        ],
    },
    Case {
        name: "secrets that nothing is in the way of",
        breaks: &[
            (
                "#project",
                "secrets: [{name: KEY}, {name: a, as: file, path: /data/a}, {name: b, as: file, path: /data/ab}, {name: b, service: web, as: file, path: /b}]",
            ),
            (
                "#web",
                "env: [{name: OTHER, value: $(KEY)}]\n    volumes: [{name: d, mountPath: /data, emptyDir: {}}, {name: f, mountPath: /etc/a, files: {a: b}}]",
            ),
        ],
        want: &[],
    },
    Case {
        name: "a variable with the name of a secret",
        breaks: &[
            ("#project", "secrets: [{name: KEY}, {name: FILE, as: file, path: /key}, {name: OTHER, service: db}]"),
            ("#web", "env: [{name: KEY, value: x}, {name: FILE, value: x}, {name: OTHER, value: x}]"),
            (
                "#stage",
                "services: {db: {env: [{name: OTHER, value: x}]}}\n  hooks: {verify: [{name: smoke, env: [{name: KEY, value: x}]}]}",
            ),
        ],
        want: &[
            "Project spec.services[web].env[KEY]: service web gets the secret KEY as this variable: remove the variable, or give the secret another name",
            "Stage spec.hooks.verify[smoke].env[KEY]: service web gets the secret KEY as this variable: remove the variable, or give the secret another name",
            "Stage spec.services.db.env[OTHER]: service db gets the secret OTHER as this variable: remove the variable, or give the secret another name",
        ],
    },
    Case {
        name: "files in the way of each other",
        breaks: &[(
            "#project",
            "secrets: [{name: a, service: web, as: file, path: /a}, {name: b, service: web, as: file, path: /a/b}, {name: c, service: db, as: file, path: /a}]",
        )],
        want: &["Project spec.secrets[b].path: is in the way of the secret a in service web: /a: choose another path"],
    },
    Case {
        name: "files in the way of volumes",
        breaks: &[
            (
                "#project",
                "secrets: [{name: a, service: web, as: file, path: /data}, {name: b, service: web, as: file, path: /etc/shop/key}, {name: c, service: web, as: file, path: /run}]",
            ),
            (
                "#web",
                "volumes: [{name: d, mountPath: /data/, emptyDir: {}}, {name: f, mountPath: /etc/shop, files: {a: b}}, {name: g, mountPath: /run/g, emptyDir: {}}]",
            ),
        ],
        want: &[
            "Project spec.secrets[a].path: is in the way of volume d in service web: /data/: choose another path",
            "Project spec.secrets[b].path: lies in volume f of service web, which is read-only, so that nothing can be mounted there: choose another path",
            "Project spec.secrets[c].path: is in the way of volume g in service web: /run/g: choose another path",
        ],
    },
    Case {
        name: "a volume with the name of ours",
        breaks: &[
            ("#project", "secrets: [{name: a, service: web, as: file, path: /a}]"),
            ("#web", "volumes: [{name: stagekeeper-secrets, mountPath: /data, emptyDir: {}}]"),
            ("#db", "volumes: [{name: stagekeeper-secrets, mountPath: /data, emptyDir: {}}]"),
        ],
        want: &[
            "Project spec.services[web].volumes[stagekeeper-secrets]: is the name of the volume with the service's secrets: choose another name",
        ],
    },
    Case {
        name: "a shared claim for one node under two instances",
        breaks: &[("#web", "scope: Instance\n    volumes: [{name: data, mountPath: /data, sharedClaim: {size: 1Gi}}]")],
        want: &[
            "Project spec.services[web].volumes[data].sharedClaim.accessModes: service web has scope Instance and strategy BlueGreen runs two instances during a deploy, but ReadWriteOnce lets only one mount the claim: use ReadWriteMany where the storage class has it, perInstanceClaim, scope: Stage for the service, or strategy.type Rolling or Recreate in the Stage",
        ],
    },
    Case {
        name: "a read-only claim for many, mounted for writing",
        breaks: &[(
            "#web",
            "scope: Instance\n    volumes: [{name: data, mountPath: /data, sharedClaim: {size: 1Gi, accessModes: [ReadOnlyMany]}}]",
        )],
        want: &[
            "Project spec.services[web].volumes[data].sharedClaim.accessModes: service web has scope Instance and strategy BlueGreen runs two instances during a deploy, but ReadOnlyMany lets only one mount the claim: use ReadWriteMany where the storage class has it, perInstanceClaim, scope: Stage for the service, or strategy.type Rolling or Recreate in the Stage",
        ],
    },
    Case {
        name: "shared claims that instances may mount together",
        breaks: &[(
            "#web",
            "scope: Instance\n    volumes: [{name: a, mountPath: /a, sharedClaim: {size: 1Gi, accessModes: [ReadWriteMany]}}, {name: b, mountPath: /b, readOnly: true, sharedClaim: {size: 1Gi, accessModes: [ReadOnlyMany]}}]",
        )],
        want: &[],
    },
    Case {
        name: "a shared claim for one node under a single instance",
        breaks: &[
            ("#web", "scope: Instance\n    volumes: [{name: data, mountPath: /data, sharedClaim: {size: 1Gi}}]"),
            ("#stage", "strategy: {type: Rolling}"),
        ],
        want: &[],
    },
    Case {
        name: "a claim per instance without an instance",
        breaks: &[("#db", "volumes: [{name: data, mountPath: /data, perInstanceClaim: {size: 1Gi}}]")],
        want: &[
            "Project spec.services[db].volumes[data].perInstanceClaim: service db has scope Stage and belongs to no instance: use sharedClaim, or set scope: Instance for the service",
        ],
    },
    Case {
        name: "a claim for one pod and several pods",
        breaks: &[(
            "#db",
            "replicas: 2\n    volumes: [{name: data, mountPath: /data, sharedClaim: {size: 1Gi, accessModes: [ReadWriteOncePod]}}]",
        )],
        want: &[
            "Project spec.services[db].volumes[data].accessModes: 2 pods cannot mount a claim that is ReadWriteOncePod: set replicas to 1, or use ReadWriteMany",
        ],
    },
    Case {
        name: "a route to a service without a port",
        breaks: &[("[{name: http, port: 8080}] #ports", "[]"), ("#stage", "route: {host: a.b, service: web}")],
        want: &[
            "Stage spec.route.service: service web has no port: add one to it in the Project, or name another service",
        ],
    },
    Case {
        name: "a route to an unknown port",
        breaks: &[("#stage", "route: {host: a.b, service: web, port: admin}")],
        want: &[
            "Stage spec.route.port: service web has no port `admin`: give the name of one of its ports, or leave it out for the first",
        ],
    },
    Case {
        name: "a route to nothing",
        breaks: &[("[{name: http, port: 8080}] #ports", "[]"), ("#stage", "route: {host: a.b}")],
        want: &[
            "Stage spec.route.service: no service of project shop has scope Instance and a port: name the service that gets the traffic, or add a port to one",
        ],
    },
    Case {
        name: "our own annotations on a route",
        breaks: &[("#stage", "route: {host: a.b, annotations: {stagekeeper.dev/rendered: x}}")],
        want: &[
            "Stage spec.route.annotations[stagekeeper.dev/rendered]: begins with stagekeeper.dev/, which is Stagekeeper's own: choose another key",
        ],
    },
    Case {
        name: "a pod template that changes the image",
        breaks: &[("#web", "podTemplate: {spec: {containers: [{name: web, image: evil}]}}")],
        want: &[
            "Project spec.services[web].podTemplate.spec.containers[web].image: changes the image, which comes from the release: remove it and set the service's image in the Project, or pin it in the Stage",
        ],
    },
    Case {
        name: "a pod template of the stage that removes the container",
        breaks: &[("#stage", "services: {web: {podTemplate: {spec: {containers: [{name: web, $patch: delete}]}}}}")],
        want: &[
            "Stage spec.services[web].podTemplate.spec.containers[web]: removes the service's own container: keep the container with the service's name",
        ],
    },
    Case {
        name: "a pod template that replaces every container",
        breaks: &[("#web", "podTemplate: {spec: {$patch: replace, containers: [{name: other, image: i}]}}")],
        want: &[
            "Project spec.services[web].podTemplate.spec.containers[web]: removes the service's own container: keep the container with the service's name",
        ],
    },
    Case {
        name: "a pod template that sets our labels",
        breaks: &[("#web", "podTemplate: {metadata: {labels: {stagekeeper.dev/service: db}}}")],
        want: &[
            "Project spec.services[web].podTemplate.metadata.labels[stagekeeper.dev/service]: begins with stagekeeper.dev/, which is Stagekeeper's own: choose another key",
        ],
    },
    Case {
        name: "a pod template that gives a secret another value",
        breaks: &[
            ("#project", "secrets: [{name: KEY}, {name: GONE}]"),
            (
                "#web",
                "podTemplate: {spec: {containers: [{name: web, env: [{name: KEY, value: x}, {name: GONE, value: x, valueFrom: null}]}]}}",
            ),
        ],
        want: &[
            "Project spec.services[web].podTemplate.spec.containers[web].env[KEY]: has both value and valueFrom, one of them from before the merge: remove it, or take the other away with null, such as valueFrom: null",
        ],
    },
    Case {
        name: "a misspelt field",
        breaks: &[("#web", "podTemplate: {spec: {nodeSelecter: {a: b}, containers: [{name: web, liveness: {}}]}}")],
        want: &[
            "Project spec.services[web].podTemplate.spec.containers[web].liveness: is not a field of a pod template: correct its name or remove it",
            "Project spec.services[web].podTemplate.spec.nodeSelecter: is not a field of a pod template: correct its name or remove it",
        ],
    },
    Case {
        name: "a container without a name",
        breaks: &[("#web", "podTemplate: {spec: {containers: [{image: x}]}}")],
        want: &[
            "Project spec.services[web].podTemplate.spec.containers: has an element without name, by which it is merged: correct it; the rules are those of kubectl patch --type strategic",
        ],
    },
];

#[test]
fn each_rule_names_the_field_and_the_way_out() {
    for Case { name, breaks, want } in CASES {
        let fixture = broken(breaks);
        let got = match fixture.build() {
            Ok(_) => Vec::new(),
            Err(problems) => problems.0.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(got, *want, "{name}");
        let early = super::Snapshot::problems(fixture.identity(), &fixture.project.spec, &fixture.stage.spec);
        let early: Vec<String> = early.iter().map(ToString::to_string).collect();
        assert_eq!(early, *want, "{name}, before the images are known");
    }
}

#[test]
fn a_wrong_type_in_a_pod_template_is_named() {
    let fixture = broken(&[("#web", "podTemplate: {spec: {hostNetwork: maybe}}")]);
    let problem = fixture.build().expect_err("wrong").to_string();
    assert!(problem.starts_with("Project spec.services[web].podTemplate: invalid type"), "{problem}");
}

#[test]
fn no_pod_template_goes_above_the_ceiling() {
    let cases = [
        ("{hostNetwork: true}", "spec.hostNetwork: shares the node's namespace"),
        ("{hostPID: true}", "spec.hostPID: shares the node's namespace"),
        ("{hostIPC: true}", "spec.hostIPC: shares the node's namespace"),
        ("{volumes: [{name: x, hostPath: {path: /}}]}", "spec.volumes[x].hostPath: mounts files of the node"),
        (
            "{securityContext: {sysctls: [{name: kernel.msgmax, value: '1'}]}}",
            "spec.securityContext.sysctls[kernel.msgmax]: changes a setting of the node's kernel",
        ),
        (
            "{securityContext: {seccompProfile: {type: Unconfined}}}",
            "spec.securityContext.seccompProfile: turns seccomp off",
        ),
        (
            "{securityContext: {appArmorProfile: {type: Unconfined}}}",
            "spec.securityContext.appArmorProfile: turns AppArmor off",
        ),
        (
            "{securityContext: {seLinuxOptions: {user: system_u}}}",
            "spec.securityContext.seLinuxOptions: chooses a SELinux user or role",
        ),
        (
            "{securityContext: {windowsOptions: {hostProcess: true}}}",
            "spec.securityContext.windowsOptions.hostProcess: runs as a process of the node",
        ),
        (
            "{containers: [{name: web, securityContext: {privileged: true}}]}",
            "spec.containers[web].securityContext.privileged: gives the container the whole node",
        ),
        (
            "{containers: [{name: web, securityContext: {capabilities: {add: [SYS_ADMIN]}}}]}",
            "spec.containers[web].securityContext.capabilities.add: adds SYS_ADMIN, which reaches beyond the container",
        ),
        (
            "{containers: [{name: web, securityContext: {procMount: Unmasked}}]}",
            "spec.containers[web].securityContext.procMount: unmasks /proc",
        ),
        (
            "{containers: [{name: web, securityContext: {seccompProfile: {type: Unconfined}}}]}",
            "spec.containers[web].securityContext.seccompProfile: turns seccomp off",
        ),
        (
            "{containers: [{name: web, securityContext: {appArmorProfile: {type: Unconfined}}}]}",
            "spec.containers[web].securityContext.appArmorProfile: turns AppArmor off",
        ),
        (
            "{containers: [{name: web, securityContext: {seLinuxOptions: {role: r}}}]}",
            "spec.containers[web].securityContext.seLinuxOptions: chooses a SELinux user or role",
        ),
        (
            "{containers: [{name: web, ports: [{containerPort: 8080, hostPort: 80}]}]}",
            "spec.containers[web].ports[].hostPort: opens a port of the node",
        ),
        (
            "{containers: [{name: side, image: i, securityContext: {privileged: true}}]}",
            "spec.containers[side].securityContext.privileged: gives the container the whole node",
        ),
        (
            "{initContainers: [{name: init, image: i, securityContext: {privileged: true}}]}",
            "spec.initContainers[init].securityContext.privileged: gives the container the whole node",
        ),
        (
            "{securityContext: {runAsUser: 0}}",
            "spec.containers[web].securityContext.runAsUser: is 0 while runAsNonRoot is true, which no node starts; set runAsNonRoot to false as well",
        ),
    ];
    for (spec, want) in cases {
        let overlay = format!("podTemplate: {{spec: {spec}}}");
        let problem = broken(&[("#web", &overlay)]).build().expect_err(spec).to_string();
        let want = format!(
            "Project spec.services[web].podTemplate.{want}: remove it; pods stay within the baseline Pod Security level"
        );
        assert_eq!(problem, want, "{spec}");
    }
}

#[test]
fn a_release_has_exactly_one_image_for_each_service() {
    let fixture = broken(&[]);
    let mut release = fixture.release('a');
    let image = release.0.remove("db").expect("an image");
    release.0.insert("cache".into(), image);
    let problems = fixture.build_with(release).expect_err("wrong");
    let got: Vec<String> = problems.0.iter().map(ToString::to_string).collect();
    assert_eq!(
        got,
        [
            "release.db: the release has no image for this service: resolve its image first",
            "release.cache: the release has an image for a service that the project does not have: resolve the images of the project as it is",
        ]
    );
}

#[test]
fn too_many_files_are_refused() {
    let text = "x".repeat(600_000);
    let volumes = format!(
        "volumes: [{{name: a, mountPath: /a, files: {{f: '{text}'}}}}, {{name: b, mountPath: /b, files: {{f: '{text}'}}}}]"
    );
    let problem = broken(&[("#web", &volumes)]).build().expect_err("too many").to_string();
    assert_eq!(
        problem,
        "Project spec.services[web].volumes: the files of all its volumes have 1200000 bytes together, and 1000000 is the most: put large files into the image"
    );
}
