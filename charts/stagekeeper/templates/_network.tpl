{{- /* What the NetworkPolicies open. What they do not is closed. */ -}}

{{- define "stagekeeper.ports" -}}
{{- range . }}
- {protocol: TCP, port: {{ . }}}
{{- end }}
{{- end -}}

{{- define "stagekeeper.ingressToOperator" -}}
- ports:
  - {protocol: TCP, port: http}
  {{- with .Values.networkPolicy.from }}
  from:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "stagekeeper.ingressToEdge" -}}
- ports:
  - {protocol: TCP, port: edge-http}
  - {protocol: TCP, port: edge-https}
- ports:
  - {protocol: TCP, port: edge-admin}
  {{- with .Values.networkPolicy.from }}
  from:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- /* Names, the API server, the database. */ -}}
{{- define "stagekeeper.egressBase" -}}
- ports:
  - {protocol: UDP, port: 53}
  - {protocol: TCP, port: 53}
- ports:
  {{- include "stagekeeper.ports" .Values.networkPolicy.apiServerPorts | trim | nindent 2 }}
- ports:
  {{- include "stagekeeper.ports" .Values.networkPolicy.databasePorts | trim | nindent 2 }}
  {{- if eq .Values.database.type "embedded" }}
  to:
  - podSelector:
      matchLabels:
        {{- include "stagekeeper.selector" (list . "postgres") | nindent 8 }}
  {{- end }}
{{- end -}}

{{- define "stagekeeper.egressRegistries" -}}
- ports:
  {{- include "stagekeeper.ports" .Values.networkPolicy.registryPorts | trim | nindent 2 }}
{{- end -}}

{{- define "stagekeeper.egressPods" -}}
- to:
  - namespaceSelector: {}
{{- end -}}
