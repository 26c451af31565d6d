{{- /* Names of the buckets, for the two scripts that set up a store. */}}
{{- define "visionyard.store.buckets" -}}
{{- range $bucket, $name := .Values.store.buckets }}
- name: BUCKET_{{ upper $bucket }}
  value: {{ $name }}
{{- end }}
{{- end }}

{{- /* Keys of all users, for the same scripts; whoever runs an external store makes its users. */}}
{{- define "visionyard.store.users" -}}
{{- range $user := tuple "root" "pipeline" "serving" "mlflow" }}
{{- if or (ne $user "mlflow") $.Values.mlflow.enabled }}
{{- range tuple "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ upper $user }}_{{ . }}
  valueFrom:
    secretKeyRef: {name: {{ include "visionyard.store.secret" (dict "root" $ "user" $user) }}, key: {{ . }}}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
