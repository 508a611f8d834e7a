{{/* Name of the chart, as in labels. */}}
{{- define "pipeops.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Full name of the release's objects. */}}
{{- define "pipeops.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := include "pipeops.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/* Labels of every object. */}}
{{- define "pipeops.labels" -}}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ include "pipeops.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: airflow
{{- end }}

{{/* Name of the ServiceAccount of workers and triggerer. */}}
{{- define "pipeops.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "pipeops.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* Name of the Secret with the connections; empty if there is none. */}}
{{- define "pipeops.secretName" -}}
{{- if .Values.connections.existingSecret }}
{{- .Values.connections.existingSecret }}
{{- else if .Values.connections.values }}
{{- printf "%s-connections" (include "pipeops.fullname" . | trunc 51 | trimSuffix "-") }}
{{- end }}
{{- end }}

{{/* Name of the ServiceAccount with which Argo Workflows reports what pods gave out. */}}
{{- define "pipeops.workflowsAccountName" -}}
{{- if .Values.workflows.serviceAccount.name }}
{{- .Values.workflows.serviceAccount.name }}
{{- else if .Values.workflows.serviceAccount.create }}
{{- printf "%s-workflows" (include "pipeops.fullname" . | trunc 31 | trimSuffix "-") }}
{{- else -}}
default
{{- end }}
{{- end }}

{{/* A script of the chart, as Kubernetes leaves it alone: of a command, it takes what follows a dollar sign. */}}
{{- define "pipeops.script" -}}
{{- $given := .Files.Get "scripts/given.sh" -}}
{{- printf "%s%s" $given (.Files.Get (printf "scripts/%s.sh" .script)) | replace "$" "$$" | toJson }}
{{- end }}

{{/* What all workflows of the templates share. */}}
{{- define "pipeops.workflowSpec" -}}
# No container gets a token; what a pod gave out is reported by another account.
automountServiceAccountToken: false
executor:
  serviceAccountName: {{ include "pipeops.workflowsAccountName" . }}
ttlStrategy:
  secondsAfterCompletion: {{ .Values.workflows.keepSeconds | int }}
{{- with .Values.workflows.registrySecret }}
imagePullSecrets:
  - name: {{ . }}
{{- end }}
{{- with .Values.workflows.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.workflows.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The container that fetches the source. */}}
{{- define "pipeops.source" -}}
- name: source
  image: {{ .Values.workflows.images.git | quote }}
  command: ["sh", "-c", {{ include "pipeops.script" (dict "Files" .Files "script" "source") }}]
  env:
    - name: PIPEOPS_ENVIRONMENT
      value: "{{ "{{workflow.parameters.source}}" }}"
  volumeMounts:
    - name: work
      mountPath: /pipeops/work
    {{- if .Values.workflows.gitSecret }}
    - name: git
      mountPath: /pipeops/git
      readOnly: true
    {{- end }}
  securityContext:
    allowPrivilegeEscalation: false
    capabilities:
      drop: ["ALL"]
    seccompProfile:
      type: RuntimeDefault
    runAsUser: 1000
    runAsGroup: 1000
  terminationMessagePolicy: FallbackToLogsOnError
  resources:
    requests:
      cpu: 50m
      memory: 64Mi
{{- end }}

{{/* The volumes that it uses. */}}
{{- define "pipeops.sourceVolumes" -}}
- name: work
  emptyDir: {}
{{- with .Values.workflows.gitSecret }}
- name: git
  secret:
    secretName: {{ . }}
    defaultMode: 288
{{- end }}
{{- end }}
