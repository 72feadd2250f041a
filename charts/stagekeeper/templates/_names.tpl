{{- /* Names, labels and images. */ -}}

{{- define "stagekeeper.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* The name that every object of a part has. The API's pods are found by `app.kubernetes.io/name=stagekeeper`: by the command
line too, so no other part may have that name. Takes (list ROOT PART). */ -}}
{{- define "stagekeeper.app" -}}
{{- $root := index . 0 -}}
{{- $part := index . 1 -}}
{{- if or (eq $part "api") (and (eq $part "controller") (eq $root.Values.mode "all")) -}}
stagekeeper
{{- else -}}
stagekeeper-{{ $part }}
{{- end -}}
{{- end -}}

{{- define "stagekeeper.selector" -}}
app.kubernetes.io/name: {{ include "stagekeeper.app" . }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
{{- end -}}

{{- define "stagekeeper.labels" -}}
{{- $root := index . 0 -}}
{{ include "stagekeeper.lastingLabels" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- /* Those that another version of the chart does not change: for pods that it does not have to start again. */ -}}
{{- define "stagekeeper.lastingLabels" -}}
{{- $root := index . 0 -}}
{{ include "stagekeeper.selector" . }}
app.kubernetes.io/part-of: stagekeeper
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Name, namespace, labels and annotations of a namespaced object. Takes (list ROOT PART NAME [ANNOTATIONS]). */ -}}
{{- define "stagekeeper.metadata" -}}
name: {{ index . 2 }}
namespace: {{ (index . 0).Release.Namespace }}
{{ include "stagekeeper.marks" . }}
{{- end -}}

{{- /* The same without a namespace. */ -}}
{{- define "stagekeeper.clusterMetadata" -}}
name: {{ index . 2 }}
{{ include "stagekeeper.marks" . }}
{{- end -}}

{{- define "stagekeeper.marks" -}}
{{- $root := index . 0 -}}
labels:
  {{- include "stagekeeper.labels" . | nindent 2 }}
{{- $own := dict -}}
{{- if gt (len .) 3 }}{{ $own = index . 3 }}{{ end -}}
{{- with merge (dict) $own $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "stagekeeper.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "stagekeeper.postgresImage" -}}
{{- with .Values.database.embedded.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ .tag }}{{- end -}}
{{- end -}}
{{- end -}}

{{- /* The service account of a part. With `mode: all` there is one. Takes (list ROOT PART). */ -}}
{{- define "stagekeeper.account" -}}
{{- $root := index . 0 -}}
{{- $part := index . 1 -}}
{{- if eq $root.Values.mode "all" }}{{ $part = "controller" }}{{ end -}}
{{- $given := (index $root.Values $part).serviceAccount.name -}}
{{- if $given -}}
{{ $given }}
{{- else if eq $part "controller" -}}
{{ include "stagekeeper.fullname" $root }}
{{- else -}}
{{ include "stagekeeper.fullname" $root }}-{{ $part }}
{{- end -}}
{{- end -}}

{{- define "stagekeeper.subject" -}}
- kind: ServiceAccount
  name: {{ include "stagekeeper.account" . }}
  namespace: {{ (index . 0).Release.Namespace }}
{{- end -}}

{{- define "stagekeeper.keysSecret" -}}
{{ default (printf "%s-encryption-keys" (include "stagekeeper.fullname" .)) .Values.encryption.existingSecret }}
{{- end -}}

{{- /* Whether rules are given in single namespaces. */ -}}
{{- define "stagekeeper.namespaced" -}}
{{- if eq .Values.rbac.scope "namespaces" -}}true{{- end -}}
{{- end -}}
