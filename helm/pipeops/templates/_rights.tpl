{{/*
What each flag below rbac gives, by duty: "wait" looks, "act" changes something. With one account both are one Role; with
serviceAccount.perDuty the account named in "duty" acts (and looks at what it acts on), and that of the waiter only looks.
*/}}
{{- define "pipeops.rights" -}}
{{- $rbac := .Values.rbac }}
argocd:
  enabled: {{ $rbac.argocd.enabled }}
  namespaces: [{{ $rbac.argocd.namespace | quote }}]
  duty: deployer
  rules:
    # Whoever may patch an Application may change what it deploys: a way around Git, and only where it is asked for.
    - apiGroups: ["argoproj.io"]
      resources: ["applications"]
      wait: ["get", "list", "watch"]
      act: [{{ if $rbac.argocd.sync }}"patch"{{ end }}]
    # What a failed wait tells: the last warnings of the application.
    - apiGroups: [""]
      resources: ["events"]
      wait: ["list"]
flux:
  enabled: {{ $rbac.flux.enabled }}
  namespaces: {{ toJson $rbac.flux.namespaces }}
  duty: deployer
  rules:
    # Flux has no API but its objects: a reconciliation is asked for by an annotation, which takes a patch.
    - apiGroups: ["kustomize.toolkit.fluxcd.io"]
      resources: ["kustomizations"]
      wait: ["get", "list", "watch"]
      act: ["patch"]
    - apiGroups: ["helm.toolkit.fluxcd.io"]
      resources: ["helmreleases"]
      wait: ["get", "list", "watch"]
      act: ["patch"]
    - apiGroups: ["source.toolkit.fluxcd.io"]
      resources: ["gitrepositories", "ocirepositories", "buckets", "helmrepositories", "helmcharts"]
      wait: ["get", "list", "watch"]
      act: ["patch"]
    # Nobody can ask for these: whoever makes them decides when.
    - apiGroups: ["source.toolkit.fluxcd.io"]
      resources: ["externalartifacts"]
      wait: ["get", "list", "watch"]
    - apiGroups: [""]
      resources: ["events"]
      wait: ["list"]
argo-workflows:
  enabled: {{ $rbac.argoWorkflows.enabled }}
  namespaces: {{ toJson $rbac.argoWorkflows.namespaces }}
  duty: builder
  rules:
    # Whoever may create a Workflow may run any container in its namespace: nothing beside workflows should be there.
    - apiGroups: ["argoproj.io"]
      resources: ["workflows"]
      wait: ["get", "list", "watch"]
      act: ["create", "update", "patch"]
    - apiGroups: ["argoproj.io"]
      resources: ["workflowtemplates"]
      act: ["get"]
    - apiGroups: ["argoproj.io"]
      resources: ["cronworkflows"]
      act: ["get", "create", "update", "patch"]
    - apiGroups: [""]
      resources: ["pods"]
      wait: ["get", "list"]
      act: [{{ if $rbac.argoWorkflows.retry }}"delete"{{ end }}]
    - apiGroups: [""]
      resources: ["pods/log"]
      wait: ["get"]
build:
  enabled: {{ $rbac.build.enabled }}
  namespaces: {{ toJson $rbac.build.namespaces }}
  duty: builder
  rules:
    # Jobs are never changed: one is created, looked at, and deleted when nobody waits for it any more. Reports come back
    # through the log of a sidecar, so that nobody may run commands in pods.
    - apiGroups: ["batch"]
      resources: ["jobs"]
      wait: ["get", "list"]
      act: ["create", "delete"]
    - apiGroups: [""]
      resources: ["pods"]
      wait: ["list", "watch"]
    - apiGroups: [""]
      resources: ["pods/log"]
      wait: ["get"]
    - apiGroups: [""]
      resources: ["events"]
      wait: ["list"]
deploy:
  enabled: {{ $rbac.deploy.enabled }}
  namespaces: {{ toJson $rbac.deploy.namespaces }}
  duty: deployer
  rules:
    {{- range $rbac.deploy.kinds }}
    - apiGroups: [{{ .apiGroup | quote }}]
      resources: {{ toJson .resources }}
      wait: ["get", "list", "watch"]
      act: ["create", "patch", "delete"{{ if $rbac.deploy.helm }}, "update"{{ end }}]
    {{- end }}
    # The parent of an apply set: what it holds, and who is at work.
    - apiGroups: [""]
      resources: ["configmaps"]
      act: ["get", "create", "patch"]
    {{- if $rbac.deploy.helm }}
    # Helm keeps its releases in Secrets, and no name tells them from others: the waiter has no right to them, so that whoever
    # watches a release of Helm does so as the deployer.
    - apiGroups: [""]
      resources: ["secrets"]
      act: ["get", "list", "create", "update", "patch", "delete"]
    {{- end }}
    # What a wait looks at, and what it tells when it fails. Deferred waits watch: without that right each polls.
    - apiGroups: ["apps"]
      resources: ["replicasets"]
      wait: ["get", "list"]
    - apiGroups: [""]
      resources: ["pods"]
      wait: ["get", "list", "watch"]
    - apiGroups: [""]
      resources: ["events"]
      wait: ["get", "list"]
    - apiGroups: [""]
      resources: ["pods/log"]
      wait: ["get"]
{{- end }}

{{/* Is any of them given? Only then do pods need a token. */}}
{{- define "pipeops.anyRights" -}}
{{- $rbac := .Values.rbac }}
{{- and $rbac.create (or $rbac.argocd.enabled $rbac.flux.enabled $rbac.argoWorkflows.enabled $rbac.build.enabled $rbac.deploy.enabled) }}
{{- end }}

{{/* Name of the account of a duty. */}}
{{- define "pipeops.dutyAccount" -}}
{{- if .root.Values.serviceAccount.perDuty }}
{{- printf "%s-%s" (include "pipeops.fullname" .root | trunc 54 | trimSuffix "-") .duty }}
{{- else }}
{{- include "pipeops.serviceAccountName" .root }}
{{- end }}
{{- end }}

{{/* A Role with the verbs of some columns, and its binding to the account of a duty. */}}
{{- define "pipeops.role" -}}
{{- $root := .root }}
{{- $columns := .columns }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ .name }}
  namespace: {{ .namespace }}
  labels:
    {{- include "pipeops.labels" $root | trim | nindent 4 }}
rules:
  {{- range $rule := .rules }}
  {{- $verbs := list }}
  {{- range $columns }}{{ $verbs = concat $verbs (default list (get $rule .)) }}{{ end }}
  {{- if $verbs }}
  - apiGroups: {{ toJson $rule.apiGroups }}
    resources: {{ toJson $rule.resources }}
    verbs: {{ toJson $verbs }}
  {{- end }}
  {{- end }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ .name }}
  namespace: {{ .namespace }}
  labels:
    {{- include "pipeops.labels" $root | trim | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ .name }}
subjects:
  - kind: ServiceAccount
    name: {{ include "pipeops.dutyAccount" (dict "root" $root "duty" .duty) }}
    namespace: {{ $root.Release.Namespace }}
{{- end }}
