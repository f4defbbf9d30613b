{{- define "headgate.fullname" -}}
{{- if contains "headgate" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-headgate" (.Release.Name | trunc 31) -}}
{{- end -}}
{{- end -}}

{{/* Labels of the object `.part` of the release `.root`. */}}
{{- define "headgate.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: headgate
{{ include "headgate.selector" . }}
{{- end -}}

{{- define "headgate.selector" -}}
app.kubernetes.io/name: headgate
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .part }}
headgate.dev/part: {{ . }}
{{- end }}
{{- end -}}

{{/* A full image reference; `.version` stands in for an absent tag. */}}
{{- define "headgate.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .version }}
{{- end -}}
{{- end -}}

{{- define "headgate.region" -}}
{{- required "region.name is required: name this cluster among your regions, e.g. --set region.name=eu-west" .Values.region.name -}}
{{- end -}}

{{/* The watched namespaces, comma separated; `*` stands for all. */}}
{{- define "headgate.watched" -}}
{{- $names := .Values.watchNamespaces | default (list .Release.Namespace) -}}
{{- if and (has "*" $names) (ne 1 (len $names)) -}}
{{- fail "watchNamespaces: \"*\" means all namespaces and stands alone; remove the others or the \"*\"" -}}
{{- end -}}
{{- $names | uniq | sortAlpha | join "," -}}
{{- end -}}

{{/* Where Idempotency-Keys are remembered; empty: nowhere. Refuses what would forget them, or know them per pod. */}}
{{- define "headgate.idempotencyStore" -}}
{{- $gateway := .Values.gateway -}}
{{- $store := $gateway.idempotency.store -}}
{{- if eq $store "embedded" -}}
{{- if or (kindIs "invalid" $gateway.replicas) (gt (int $gateway.replicas) 1) -}}
{{- fail "gateway.idempotency.store=embedded is the memory of one gateway, and each of several would answer a repeated request once: set gateway.replicas=1, or gateway.idempotency.store=valkey" -}}
{{- end -}}
{{- if not $gateway.persistence.enabled -}}
{{- fail "gateway.idempotency.store=embedded needs a volume, or each new pod would forget all keys: set gateway.persistence.enabled=true, or gateway.idempotency.store=valkey" -}}
{{- end -}}
{{- end -}}
{{- if and (eq $store "valkey") (not $gateway.idempotency.urlSecret.name) -}}
{{- fail "gateway.idempotency.store=valkey needs to know the server: set gateway.idempotency.urlSecret.name to a Secret with its URL" -}}
{{- end -}}
{{- if ne $store "none" -}}{{- $store -}}{{- end -}}
{{- end -}}

{{- define "headgate.podSecurityContext" -}}
runAsNonRoot: true
{{- if not (kindIs "invalid" .Values.runAs) }}
runAsUser: {{ .Values.runAs }}
runAsGroup: {{ .Values.runAs }}
fsGroup: {{ .Values.runAs }}
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "headgate.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Liveness asks whether the process can still answer at all, so it is slow to give up. */}}
{{- define "headgate.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: admin}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: admin}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
{{- end -}}

{{/* What both pods take over from their part's values. */}}
{{- define "headgate.placement" -}}
{{- with .imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* Spread over nodes and zones where there are several; never a reason not to start. */}}
{{- define "headgate.spread" -}}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "headgate.selector" $ | nindent 8 }}
  {{- end }}
{{- end -}}

{{/* Binds the ClusterRole `.role` to the account `.account` in every watched namespace, or in all. */}}
{{- define "headgate.bindWatched" -}}
{{- $watched := include "headgate.watched" .root -}}
{{- range $namespace := splitList "," $watched }}
---
apiVersion: rbac.authorization.k8s.io/v1
{{- if eq $namespace "*" }}
kind: ClusterRoleBinding
metadata:
  name: {{ $.role }}
{{- else }}
kind: RoleBinding
metadata:
  name: {{ $.role }}
  namespace: {{ $namespace }}
{{- end }}
  labels:
    {{- include "headgate.labels" (dict "root" $.root "part" $.part) | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ $.role }}
subjects:
  - kind: ServiceAccount
    name: {{ $.account }}
    namespace: {{ $.root.Release.Namespace }}
{{- end }}
{{- end -}}

{{/* What the gateways' data port speaks. */}}
{{- define "headgate.scheme" -}}
{{ if .Values.gateway.tls.secretName }}https{{ else }}http{{ end }}
{{- end }}
