{{- /* What is made before anything starts: Secrets that only have to be made once. Hooks are no part of the release, so it is never
removed with it, and what is there is left as it is. */ -}}

{{- define "stagekeeper.makesKeys" -}}
{{- if not .Values.encryption.existingSecret }}true{{ end -}}
{{- end -}}

{{- define "stagekeeper.makesDatabase" -}}
{{- if eq .Values.database.type "embedded" }}true{{ end -}}
{{- end -}}

{{- define "stagekeeper.hasSetup" -}}
{{- if or (include "stagekeeper.makesKeys" .) (include "stagekeeper.makesDatabase" .) }}true{{ end -}}
{{- end -}}

{{- /* Takes the weight. */ -}}
{{- define "stagekeeper.setupHook" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}
