{{- /* What makes a container a client of Kubeflow Pipelines: (dict "root" $ "needs" "receiver.enabled"). */}}
{{- define "visionyard.kfp.env" -}}
- name: KF_PIPELINES_ENDPOINT
  value: {{ required (printf "kfp.endpoint: %s needs the address of Kubeflow Pipelines' API" .needs) .root.Values.kfp.endpoint }}
{{- with .root.Values.kfp.namespace }}
- {name: KF_PIPELINES_NAMESPACE, value: {{ . }}}
- {name: KF_PIPELINES_SA_TOKEN_PATH, value: /var/run/secrets/kubeflow/pipelines/token}
{{- end }}
- {name: HOME, value: /tmp}
{{- end }}

{{- define "visionyard.kfp.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if .Values.kfp.namespace }}
- {name: kfp-token, mountPath: /var/run/secrets/kubeflow/pipelines, readOnly: true}
{{- end }}
{{- if .Values.profiles }}
- {name: profiles, mountPath: /etc/visionyard/profiles, readOnly: true}
{{- end }}
{{- end }}

{{- define "visionyard.kfp.volumes" -}}
- name: tmp
  emptyDir: {}
{{- if .Values.kfp.namespace }}
- name: kfp-token
  projected:
    sources:
      - serviceAccountToken: {path: token, audience: pipelines.kubeflow.org, expirationSeconds: 7200}
{{- end }}
{{- if .Values.profiles }}
- name: profiles
  configMap: {name: {{ .Values.name }}-profiles}
{{- end }}
{{- end }}
