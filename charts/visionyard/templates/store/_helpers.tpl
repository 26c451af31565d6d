{{- define "visionyard.store.builtin" -}}
{{- if ne .Values.store.kind "external" }}true{{ end }}
{{- end }}

{{- define "visionyard.store.port" -}}
{{- if eq .Values.store.kind "minio" }}9000{{ else }}8333{{ end }}
{{- end }}

{{- define "visionyard.store.host" -}}
{{- if include "visionyard.store.builtin" . -}}
{{ .Values.name }}-store:{{ include "visionyard.store.port" . }}
{{- else -}}
{{ regexReplaceAll "^https?://" (required "store.endpoint: an external store needs its address" .Values.store.endpoint) "" }}
{{- end }}
{{- end }}

{{- define "visionyard.store.scheme" -}}
{{- if and (not (include "visionyard.store.builtin" .)) (hasPrefix "https://" .Values.store.endpoint) }}https{{ else }}http{{ end }}
{{- end }}

{{- define "visionyard.store.url" -}}
{{ include "visionyard.store.scheme" . }}://{{ include "visionyard.store.host" . }}
{{- end }}

{{- /* What tells KServe's storage initializer of the store; it stands on the Secret with the keys. */}}
{{- define "visionyard.store.annotations" -}}
serving.kserve.io/s3-endpoint: {{ include "visionyard.store.host" . }}
serving.kserve.io/s3-usehttps: {{ ternary "1" "0" (eq (include "visionyard.store.scheme" .) "https") | quote }}
serving.kserve.io/s3-region: {{ .Values.store.region }}
{{- end }}

{{- /* Secret of one of the store's users: (dict "root" $ "user" "pipeline"). */}}
{{- define "visionyard.store.secret" -}}
{{- $own := dict "root" "store-root" "pipeline" "s3" "serving" "s3-serving" "mlflow" "s3-mlflow" -}}
{{- include "visionyard.secretName" (dict "root" .root "existing" (get .root.Values.store.existingSecrets .user) "name" (get $own .user)) }}
{{- end }}

{{- /* What makes a container a client of the store: (dict "root" $ "user" "pipeline"). */}}
{{- define "visionyard.store.env" -}}
- name: AWS_ENDPOINT_URL
  value: {{ include "visionyard.store.url" .root }}
- name: AWS_DEFAULT_REGION
  value: {{ .root.Values.store.region }}
{{- range tuple "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ . }}
  valueFrom:
    secretKeyRef: {name: {{ include "visionyard.store.secret" $ }}, key: {{ . }}}
{{- end }}
{{- end }}
