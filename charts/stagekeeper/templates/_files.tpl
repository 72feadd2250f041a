{{- /* Objects of a file as they are, with labels and annotations of the release. Takes (list ROOT FILE). */ -}}
{{- define "stagekeeper.marked" -}}
{{- $root := index . 0 -}}
{{- range $document := splitList "\n---\n" ($root.Files.Get (index . 1)) }}
{{- $object := fromYaml $document }}
{{- $metadata := merge (fromYaml (include "stagekeeper.marks" (list $root "policies"))) $object.metadata }}
---
{{ toYaml (set $object "metadata" $metadata) }}
{{- end }}
{{- end -}}
