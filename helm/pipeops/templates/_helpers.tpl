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
{{- else if or .Values.connections.values .Values.connections.externalSecret.enabled }}
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
    runAsNonRoot: true
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

{{/* Requests and limits, where none are given. */}}
{{- define "pipeops.resources" -}}
{{- if .given }}
{{- toYaml .given }}
{{- else -}}
requests: {cpu: {{ .cpu }}, memory: {{ .memory }}}
limits: {memory: {{ .most }}}
{{- end }}
{{- end }}

{{/* Labels by which the pods that this chart itself runs are found. */}}
{{- define "pipeops.podLabels" -}}
app.kubernetes.io/name: {{ include "pipeops.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Metadata of such a pod. */}}
{{- define "pipeops.podMetadata" -}}
labels:
  {{- include "pipeops.labels" .root | trim | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* The spec of such a pod but for its containers: the user of Airflow's image, under Pod Security "restricted". */}}
{{- define "pipeops.podSpec" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 50000
  runAsGroup: 0
  fsGroup: 0
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* What each of their containers has. */}}
{{- define "pipeops.container" -}}
image: {{ .Values.image | quote }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: ["ALL"]
resources:
  {{- include "pipeops.resources" (dict "given" .Values.resources "cpu" "100m" "memory" "256Mi" "most" "512Mi") | nindent 2 }}
{{- end }}

{{/* Name of what belongs to a part of the chart. */}}
{{- define "pipeops.partName" -}}
{{- printf "%s-%s" (include "pipeops.fullname" .root | trunc 50 | trimSuffix "-") .part }}
{{- end }}

{{/* Where the small Git server is asked. */}}
{{- define "pipeops.gitURL" -}}
http://{{ include "pipeops.partName" (dict "root" . "part" "git") }}.{{ .Release.Namespace }}.svc:8080
{{- end }}

{{/* The repository of the examples' desired state. */}}
{{- define "pipeops.examplesURL" -}}
{{- default (printf "%s/deploy.git" (include "pipeops.gitURL" .)) .Values.examples.repoURL }}
{{- end }}

{{/* The project of the Applications. */}}
{{- define "pipeops.project" -}}
{{- if .Values.argocd.project.enabled }}
{{- default (include "pipeops.fullname" .) .Values.argocd.project.name }}
{{- else }}
{{- .Values.argocd.application.project }}
{{- end }}
{{- end }}

{{/* Each example in each environment: its name, which is that of its namespace too, and its folder. */}}
{{- define "pipeops.exampleNames" -}}
{{- range $deliverable := list "delay-api" "flight-delay" }}
{{- range $environment := list "staging" "production" }}
- name: {{ $deliverable }}-{{ $environment }}
  environment: {{ $environment }}
  path: apps/{{ $deliverable }}/overlays/{{ $environment }}
{{- end }}
{{- end }}
{{- end }}

{{/* What may be reached, in a NetworkPolicy. */}}
{{- define "pipeops.egress" -}}
egress:
  - ports:  # DNS
      - {port: 53, protocol: UDP}
      - {port: 53, protocol: TCP}
      - {port: 5353, protocol: UDP}  # where the DNS of OpenShift listens, behind its Service
      - {port: 5353, protocol: TCP}
  - to:  # Airflow's own components and services in this namespace
      - podSelector: {}
  {{- $namespaces := .Values.networkPolicy.egressNamespaces }}
{{- if ne .Values.examples.gitops "none" }}
{{- range include "pipeops.exampleNames" . | fromYamlArray }}{{ $namespaces = append $namespaces .name }}{{ end }}
{{- end }}
{{- with $namespaces }}
  - to:
      - namespaceSelector:
          matchExpressions:
            - key: kubernetes.io/metadata.name
              operator: In
              values: {{ toJson . }}
  {{- end }}
  - to:
      {{- range .Values.networkPolicy.egressCidrs }}
      - ipBlock:
          cidr: {{ . | quote }}
      {{- end }}
    ports:
      {{- range .Values.networkPolicy.egressPorts }}
      - {port: {{ . }}, protocol: TCP}
      {{- end }}
{{- end }}
