{{- /* Address of MLflow for stages and tests; empty where there is none. */}}
{{- define "visionyard.mlflow.url" -}}
{{- if .Values.mlflow.enabled -}}
http://{{ .Values.name }}-mlflow:5000
{{- else -}}
{{ .Values.mlflow.externalUri }}
{{- end }}
{{- end }}

{{- define "visionyard.postgresql.secret" -}}
{{- include "visionyard.secretName" (dict "root" . "existing" .Values.postgresql.existingSecret "name" "postgresql") }}
{{- end }}

{{- define "visionyard.postgresql.builtin" -}}
{{- if and .Values.mlflow.enabled .Values.postgresql.enabled }}true{{ end }}
{{- end }}
