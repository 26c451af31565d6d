{{- /* An ExternalSecret that makes the Secret of the same name: (dict "root" $ "name" "..." "keys" (tuple ...)). */}}
{{- define "visionyard.externalSecret" -}}
{{- $external := .root.Values.externalSecrets -}}
{{- $name := .name -}}
apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "visionyard.labels" (dict "root" .root "component" "secrets") | nindent 4 }}
spec:
  refreshInterval: {{ $external.refreshInterval }}
  secretStoreRef:
    kind: {{ $external.storeKind }}
    name: {{ required "externalSecrets.store: name the SecretStore that holds the secrets" $external.store }}
  target:
    name: {{ .name }}
    {{- if hasPrefix (printf "%s-s3" .root.Values.name) .name }}
    template:
      mergePolicy: Merge
      metadata:
        annotations:
          {{- include "visionyard.store.annotations" .root | nindent 10 }}
      data:
        AWS_ENDPOINT_URL: {{ include "visionyard.store.url" .root }}
        AWS_DEFAULT_REGION: {{ .root.Values.store.region }}
        MLFLOW_TRACKING_URI: {{ include "visionyard.mlflow.url" .root | quote }}
    {{- end }}
  data:
    {{- range .keys }}
    - secretKey: {{ . }}
      remoteRef: {key: {{ $external.prefix }}{{ $name }}, property: {{ . }}}
    {{- end }}
{{- end }}
