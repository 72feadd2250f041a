{{- /* What pods and containers have in common. */ -}}

{{- /* The beginning of a pod's spec. Takes (list ROOT PART VALUES), VALUES being those of the part. */ -}}
{{- define "stagekeeper.pod" -}}
{{- $root := index . 0 -}}
{{- $part := index . 1 -}}
{{- $values := index . 2 -}}
{{- /* The variables that Kubernetes makes for a Service named stagekeeper would be taken for settings. */ -}}
enableServiceLinks: false
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.pods.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $root.Values.pods.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.pods.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if and $root.Values.pods.topologySpread (not (has $part (list "postgres" "setup" "selftest"))) }}
topologySpreadConstraints:
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "stagekeeper.selector" (list $root $part) | nindent 6 }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* Labels and annotations of the pods of a part. Takes (list ROOT PART VALUES). */ -}}
{{- define "stagekeeper.podMetadata" -}}
{{- $root := index . 0 -}}
{{- $values := index . 2 -}}
labels:
  {{- /* The database is no part of a version: it goes on while the operator is upgraded. */}}
  {{- include (ternary "stagekeeper.lastingLabels" "stagekeeper.labels" (eq (index . 1) "postgres")) . | nindent 2 }}
  {{- with $values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (default dict $values.podAnnotations) $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "stagekeeper.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "stagekeeper.imageLines" -}}
image: {{ include "stagekeeper.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end -}}

{{- /* Brings the schema to this version before a new pod begins, and waits for the database. Old pods go on meanwhile: a
migration only adds what the version before does not know of. Takes (list ROOT). */ -}}
{{- define "stagekeeper.migrate" -}}
- name: migrate
  {{- include "stagekeeper.imageLines" . | nindent 2 }}
  args: [migrate, up, --wait, {{ .Values.database.wait | quote }}]
  env:
    {{- include "stagekeeper.databaseEnv" . | nindent 4 }}
  resources:
    requests: {cpu: 10m, memory: 32Mi}
    limits: {memory: 128Mi}
  securityContext:
    {{- include "stagekeeper.containerSecurity" . | nindent 4 }}
  {{- with include "stagekeeper.databaseMounts" . }}
  volumeMounts:
    {{- . | trim | nindent 4 }}
  {{- end }}
{{- end -}}

{{- /* Settings that the controller and the API share. */ -}}
{{- define "stagekeeper.operatorEnv" -}}
{{- $config := .Values.config -}}
{{ include "stagekeeper.databaseEnv" . }}
- name: STAGEKEEPER_ENCRYPTION_KEYS_FILE
  value: /etc/stagekeeper/keys/keys
- name: POD_NAME
  valueFrom:
    fieldRef: {fieldPath: metadata.name}
- name: POD_NAMESPACE
  valueFrom:
    fieldRef: {fieldPath: metadata.namespace}
{{ include "stagekeeper.sharedEnv" . }}
- name: STAGEKEEPER_API_AUDIENCE
  value: {{ $config.apiAudience | quote }}
{{- with $config.publicUrl }}
- name: STAGEKEEPER_PUBLIC_URL
  value: {{ . | quote }}
{{- end }}
{{- with $config.previewUrl }}
- name: STAGEKEEPER_PREVIEW_URL
  value: {{ . | quote }}
{{- end }}
{{- if .Values.edge.enabled }}
- name: STAGEKEEPER_EDGE_SERVICE
  value: {{ printf "%s/%s-edge:%d" .Release.Namespace (include "stagekeeper.fullname" .) (int .Values.edge.service.httpPort) | quote }}
{{- end }}
{{- with $config.oidc }}
{{- if .issuer }}
- name: STAGEKEEPER_OIDC_ISSUER
  value: {{ .issuer | quote }}
- name: STAGEKEEPER_OIDC_CLIENT_ID
  value: {{ required "config.oidc.clientId: an issuer needs the audience of its tokens" .clientId | quote }}
- name: STAGEKEEPER_OIDC_USER_CLAIM
  value: {{ .userClaim | quote }}
- name: STAGEKEEPER_OIDC_USER_PREFIX
  value: {{ .userPrefix | quote }}
- name: STAGEKEEPER_OIDC_GROUPS_CLAIM
  value: {{ .groupsClaim | quote }}
- name: STAGEKEEPER_OIDC_GROUPS_PREFIX
  value: {{ .groupsPrefix | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* Settings that every part has. */ -}}
{{- define "stagekeeper.sharedEnv" -}}
- name: STAGEKEEPER_LOG
  value: {{ .Values.config.log | quote }}
- name: STAGEKEEPER_LOG_FORMAT
  value: {{ .Values.config.logFormat | quote }}
{{- if include "stagekeeper.namespaced" . }}
- name: STAGEKEEPER_NAMESPACES
  value: {{ join "," .Values.rbac.namespaces | quote }}
{{- end }}
{{- end -}}

{{- /* The end of a container of the operator: settings, probes, mounts. Takes (list ROOT VALUES ENV). */ -}}
{{- define "stagekeeper.operatorContainer" -}}
{{- $root := index . 0 -}}
{{- $values := index . 1 -}}
{{- include "stagekeeper.imageLines" $root }}
env:
  {{- include "stagekeeper.operatorEnv" $root | nindent 2 }}
  {{- with index . 2 }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with $values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
ports:
- name: http
  containerPort: 8080
livenessProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 10
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 5
resources:
  {{- toYaml $values.resources | nindent 2 }}
securityContext:
  {{- include "stagekeeper.containerSecurity" $root | nindent 2 }}
volumeMounts:
- name: keys
  mountPath: /etc/stagekeeper/keys
  readOnly: true
{{- with include "stagekeeper.databaseMounts" $root }}
{{ . | trim }}
{{- end }}
{{- with $values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Volumes of a pod of the operator. Takes (list ROOT VALUES). */ -}}
{{- define "stagekeeper.operatorVolumes" -}}
{{- $root := index . 0 -}}
- name: keys
  secret:
    secretName: {{ include "stagekeeper.keysSecret" $root }}
    items: [{key: keys, path: keys}]
{{- with include "stagekeeper.databaseVolumes" $root }}
{{ . | trim }}
{{- end }}
{{- with (index . 1).extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* The container of the edge. Its port for health is 8080, or 8081 beside the operator. */ -}}
{{- define "stagekeeper.edgeContainer" -}}
{{- $edge := .Values.edge -}}
{{- $beside := eq .Values.mode "all" -}}
- name: edge
  {{- include "stagekeeper.imageLines" . | nindent 2 }}
  args: [edge]
  env:
    {{- include "stagekeeper.databaseEnv" . | nindent 4 }}
    {{- include "stagekeeper.sharedEnv" . | nindent 4 }}
    - name: STAGEKEEPER_PORT
      value: {{ ternary "8081" "8080" $beside | quote }}
    - name: STAGEKEEPER_WORKER_THREADS
      value: {{ $edge.workerThreads | quote }}
    {{- if $edge.tlsSecret }}
    - name: STAGEKEEPER_EDGE_TLS_CERT
      value: /etc/stagekeeper/edge-tls/tls.crt
    - name: STAGEKEEPER_EDGE_TLS_KEY
      value: /etc/stagekeeper/edge-tls/tls.key
    - name: STAGEKEEPER_EDGE_REDIRECT
      value: {{ $edge.redirect | quote }}
    {{- end }}
    {{- if $edge.passwordSecret }}
    - name: STAGEKEEPER_EDGE_PASSWORD_FILE
      value: /etc/stagekeeper/edge-password/password
    {{- end }}
    - name: STAGEKEEPER_EDGE_WAKE_LIMIT
      value: {{ $edge.wakeLimit | quote }}
    - name: STAGEKEEPER_EDGE_RATE
      value: {{ $edge.rate | quote }}
    - name: STAGEKEEPER_EDGE_ACCESS_LOG
      value: {{ $edge.accessLog | quote }}
    - name: STAGEKEEPER_EDGE_DETAILS
      value: {{ $edge.details | quote }}
    {{- with $edge.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $edge.extraEnvFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  ports:
  - name: edge-admin
    containerPort: {{ ternary 8081 8080 $beside }}
  - name: edge-http
    containerPort: 8000
  - name: edge-https
    containerPort: 8443
  livenessProbe:
    httpGet: {path: /healthz, port: edge-admin}
    periodSeconds: 10
    failureThreshold: 6
  readinessProbe:
    httpGet: {path: /readyz, port: edge-admin}
    periodSeconds: 5
  lifecycle:
    {{- /* Five seconds until nobody sends new requests; 25 for those that are under way. */}}
    preStop:
      sleep: {seconds: 5}
  resources:
    {{- toYaml $edge.resources | nindent 4 }}
  securityContext:
    {{- include "stagekeeper.containerSecurity" . | nindent 4 }}
  {{- if or $edge.tlsSecret $edge.passwordSecret $edge.extraVolumeMounts (include "stagekeeper.databaseMounts" .) }}
  volumeMounts:
  {{- if $edge.tlsSecret }}
  - name: edge-tls
    mountPath: /etc/stagekeeper/edge-tls
    readOnly: true
  {{- end }}
  {{- if $edge.passwordSecret }}
  - name: edge-password
    mountPath: /etc/stagekeeper/edge-password
    readOnly: true
  {{- end }}
  {{- with include "stagekeeper.databaseMounts" . }}
  {{- . | trim | nindent 2 }}
  {{- end }}
  {{- with $edge.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- end }}
{{- end -}}

{{- define "stagekeeper.edgeVolumes" -}}
{{- $edge := .Values.edge -}}
{{- if $edge.tlsSecret }}
- name: edge-tls
  secret:
    secretName: {{ $edge.tlsSecret }}
{{- end }}
{{- if $edge.passwordSecret }}
- name: edge-password
  secret:
    secretName: {{ $edge.passwordSecret }}
{{- end }}
{{- with $edge.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
