{{- /* Names, labels, images and the security settings that all pods share. */}}

{{- define "visionyard.labels" -}}
app.kubernetes.io/name: visionyard
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/part-of: visionyard
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- with .root.Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "visionyard.selector" -}}
app.kubernetes.io/name: visionyard
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- /* Labels of pods: without the version, so that an upgrade restarts only what it changes. */}}
{{- define "visionyard.podLabels" -}}
{{ include "visionyard.selector" . }}
app.kubernetes.io/part-of: visionyard
{{- end }}

{{- /* Metadata of an object: (dict "root" $ "component" "store" "name" "minio"); an empty name is the release's own. */}}
{{- define "visionyard.metadata" -}}
name: {{ .root.Values.name }}{{ with .name }}-{{ . }}{{ end }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "visionyard.labels" . | nindent 2 }}
{{- end }}

{{- define "visionyard.image" -}}
{{- $image := .root.Values.image -}}
{{- with $image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ .repository }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- /* A name that is the chart's own unless an existing one is given: (dict "root" $ "existing" "" "name" "s3"). */}}
{{- define "visionyard.secretName" -}}
{{- .existing | default (printf "%s-%s" .root.Values.name .name) }}
{{- end }}

{{- define "visionyard.pod.settings" -}}
securityContext:
  runAsNonRoot: true
  {{- if not .root.Values.podSecurity.platformAssignsIds }}
  runAsUser: {{ .root.Values.podSecurity.id }}
  runAsGroup: {{ .root.Values.podSecurity.id }}
  fsGroup: {{ .root.Values.podSecurity.id }}
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
serviceAccountName: {{ .root.Values.name }}-{{ .account }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- end }}

{{- define "visionyard.container.security" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{- /* Whether something that needs a kind of the cluster is rendered: (dict "root" $ "switch" "auto" "api" "group/version/Kind"). */}}
{{- define "visionyard.wanted" -}}
{{- if or (eq .switch "always") (and (eq .switch "auto") (.root.Capabilities.APIVersions.Has .api)) }}true{{ end }}
{{- end }}

{{- /* Network peers that are clients of store, MLflow and server: this chart's pods, stages, KServe's predictors. */}}
{{- define "visionyard.clients" -}}
- podSelector: {matchLabels: {app.kubernetes.io/part-of: visionyard}}
- podSelector: {matchLabels: {pipelines.kubeflow.org/v2_component: "true"}}
- podSelector: {matchExpressions: [{key: serving.kserve.io/inferenceservice, operator: Exists}]}
{{- range .Values.networkPolicies.clientNamespaceLabels }}
- namespaceSelector: {matchLabels: {{ toJson . }}}
{{- end }}
{{- end }}
