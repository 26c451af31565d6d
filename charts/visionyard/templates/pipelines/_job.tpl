{{- /* A hook job that talks to Kubeflow Pipelines: (dict "root" $ "component" "..." "needs" "..." "weight" "0" "command" (list ...) "files" "ConfigMap" "mountPath" "..."). */}}
{{- define "visionyard.kfp.job" -}}
{{- $root := dict "root" .root "component" .component "account" "schedules" "name" .component -}}
apiVersion: batch/v1
kind: Job
metadata:
  {{- include "visionyard.metadata" $root | nindent 2 }}
  annotations:
    helm.sh/hook: post-install,post-upgrade,post-rollback
    helm.sh/hook-weight: {{ quote .weight }}
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  backoffLimit: 3
  activeDeadlineSeconds: 900
  template:
    metadata:
      labels:
        {{- include "visionyard.podLabels" $root | nindent 8 }}
    spec:
      {{- include "visionyard.pod.settings" $root | nindent 6 }}
      restartPolicy: Never
      containers:
        - name: {{ .component }}
          image: {{ include "visionyard.image" (dict "root" .root "repository" .root.Values.image.data) }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          command: {{ toJson .command }}
          env:
            {{- include "visionyard.kfp.env" . | nindent 12 }}
          resources:
            {{- toYaml .root.Values.jobResources | nindent 12 }}
          {{- include "visionyard.container.security" . | nindent 10 }}
          volumeMounts:
            {{- include "visionyard.kfp.mounts" .root | nindent 12 }}
            - {name: files, mountPath: {{ .mountPath }}, readOnly: true}
      volumes:
        {{- include "visionyard.kfp.volumes" .root | nindent 8 }}
        - name: files
          configMap: {name: {{ .root.Values.name }}-{{ .files }}}
{{- end }}
