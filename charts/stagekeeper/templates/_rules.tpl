{{- /* Who may do what. tests/chart.rs holds these rules to examples/operator, and those are held to what the program uses. */ -}}

{{- /* The operator, in every watched namespace. */ -}}
{{- define "stagekeeper.rules.operator" -}}
# What people declare, and the status that they read.
- apiGroups: [stagekeeper.dev]
  resources: [projects, stages]
  verbs: [list, watch]
- apiGroups: [stagekeeper.dev]
  resources: [stages]
  verbs: [patch]
- apiGroups: [stagekeeper.dev]
  resources: [environments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [stagekeeper.dev]
  resources: [environments/status, projects/status, stages/status]
  verbs: [patch]
- apiGroups: [stagekeeper.dev]
  resources: [environments/finalizers, stages/finalizers]
  verbs: [update]
# What instances consist of.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, delete]
{{- if .Values.rbac.secrets }}
# Pull secrets, the secrets of workloads, and the Secrets that Projects copy from.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
- apiGroups: [networking.k8s.io]
  resources: [ingresses]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [configmaps, persistentvolumeclaims]
  verbs: [get, create, patch, deletecollection]
{{- if and .Values.rbac.access (not (include "stagekeeper.namespaced" .)) }}
# What `spec.access` of Projects gives: these four roles and no others.
- apiGroups: [rbac.authorization.k8s.io]
  resources: [rolebindings]
  verbs: [get, list, create, patch, delete]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [clusterroles]
  resourceNames: [stagekeeper-admin, stagekeeper-member, stagekeeper-owner, stagekeeper-viewer]
  verbs: [bind]
{{- end }}
# What is observed, and the evidence of failures.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
- apiGroups: [""]
  resources: [events]
  verbs: [list]
# What it tells.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{- /* The API in a process of its own: it looks Projects and Stages up, one at a time, by a list of one. */ -}}
{{- define "stagekeeper.rules.api" -}}
- apiGroups: [stagekeeper.dev]
  resources: [projects, stages]
  verbs: [list]
{{- end -}}

{{- define "stagekeeper.rules.edge" -}}
- apiGroups: [""]
  resources: [services]
  verbs: [list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
- apiGroups: [stagekeeper.dev]
  resources: [environments]
  verbs: [list, watch]
{{- end -}}

{{- /* A ClusterRole or, for each namespace, a Role, with its binding. Takes (list ROOT PART NAME RULES). */ -}}
{{- define "stagekeeper.watched" -}}
{{- $root := index . 0 -}}
{{- $part := index . 1 -}}
{{- $name := index . 2 -}}
{{- $rules := index . 3 -}}
{{- if include "stagekeeper.namespaced" $root }}
{{- range $namespace := $root.Values.rbac.namespaces }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  {{- /* The release's own namespace has a Role of the plain name already, for the Lease. */}}
  name: {{ $name }}-watched
  namespace: {{ $namespace }}
  {{- include "stagekeeper.marks" (list $root $part) | nindent 2 }}
rules:
{{ $rules }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ $name }}-watched
  namespace: {{ $namespace }}
  {{- include "stagekeeper.marks" (list $root $part) | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ $name }}-watched
subjects:
{{ include "stagekeeper.subject" (list $root $part) }}
{{- end }}
{{- else }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  {{- include "stagekeeper.clusterMetadata" (list $root $part $name) | nindent 2 }}
rules:
{{ $rules }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  {{- include "stagekeeper.clusterMetadata" (list $root $part $name) | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ $name }}
subjects:
{{ include "stagekeeper.subject" (list $root $part) }}
{{- end }}
{{- end -}}
