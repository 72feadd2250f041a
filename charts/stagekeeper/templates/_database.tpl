{{- /* The database as the processes are told of it. */ -}}

{{- define "stagekeeper.databaseSecret" -}}
{{- $type := .Values.database.type -}}
{{- if eq $type "external" -}}
{{ required "database.external.existingSecret: name the Secret with the database's address, or choose another database.type" .Values.database.external.existingSecret }}
{{- else if eq $type "cloudnativepg" -}}
{{ include "stagekeeper.fullname" . }}-postgres-app
{{- else -}}
{{ include "stagekeeper.fullname" . }}-database
{{- end -}}
{{- end -}}

{{- define "stagekeeper.databaseUrlKey" -}}
{{- if eq .Values.database.type "external" -}}{{ .Values.database.external.urlKey }}
{{- else if eq .Values.database.type "cloudnativepg" -}}uri
{{- else -}}url
{{- end -}}
{{- end -}}

{{- /* Environment variables. The driver takes what the URL leaves out from the variables of libpq, so parts need no encoding. */ -}}
{{- define "stagekeeper.databaseEnv" -}}
{{- $secret := include "stagekeeper.databaseSecret" . -}}
{{- $key := include "stagekeeper.databaseUrlKey" . -}}
{{- $external := .Values.database.external -}}
{{- if $key -}}
- name: DATABASE_URL
  valueFrom:
    secretKeyRef: {name: {{ $secret }}, key: {{ $key }}}
{{- else -}}
- name: DATABASE_URL
  value: postgres:///
{{- range $name, $part := dict "PGHOST" $external.hostKey "PGPORT" $external.portKey "PGUSER" $external.userKey "PGPASSWORD" $external.passwordKey "PGDATABASE" $external.databaseKey }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef: {name: {{ $secret }}, key: {{ $part }}}
{{- end }}
- name: PGSSLMODE
  value: {{ $external.sslMode }}
{{- end }}
{{- if and (eq .Values.database.type "external") $external.caSecret }}
- name: PGSSLROOTCERT
  value: /etc/stagekeeper/database-ca/ca.crt
{{- end }}
{{- end -}}

{{- define "stagekeeper.databaseMounts" -}}
{{- if and (eq .Values.database.type "external") .Values.database.external.caSecret }}
- name: database-ca
  mountPath: /etc/stagekeeper/database-ca
  readOnly: true
{{- end }}
{{- end -}}

{{- define "stagekeeper.databaseVolumes" -}}
{{- if and (eq .Values.database.type "external") .Values.database.external.caSecret }}
- name: database-ca
  secret:
    secretName: {{ .Values.database.external.caSecret }}
{{- end }}
{{- end -}}
