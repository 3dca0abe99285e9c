{{/*
What the pods of all services have in common. Each service's deployment.yaml says what is its own.

    /etc/aisix/config.yaml    the configuration, read at start: a change restarts the pods (checksum/config)
    /run/aisix/...            secrets, each a whole volume, so that a change arrives in a pod that runs
    /var/lib/aisix, /tmp      all that can be written
*/}}

{{/* `metadata:` of a pod. root, component, values; annotations: more of them. */}}
{{- define "aisix.pod.metadata" -}}
{{- $checksum := dict "checksum/config" (include "aisix.config" (dict "root" .root "component" .component) | sha256sum) -}}
{{- $annotations := merge $checksum (default dict .annotations) (deepCopy .values.podAnnotations) -}}
labels:
  {{- include "aisix.podLabels" (dict "root" .root "component" .component "extra" .values.podLabels) | nindent 2 }}
annotations:
  {{- include "aisix.annotations" (dict "root" .root "extra" $annotations) | nindent 2 }}
{{- end -}}

{{/* The part of a pod's spec that says who it is and where it runs. root, component, values; token: whether it may use
     the Kubernetes API. */}}
{{- define "aisix.pod.spec" -}}
serviceAccountName: {{ include "aisix.serviceAccountName" (dict "root" .root "component" .component) }}
automountServiceAccountToken: {{ ternary "true" "false" (not (empty .token)) }}
enableServiceLinks: false
{{- include "aisix.imagePullSecrets" .root }}
securityContext:
  {{- include "aisix.podSecurityContext" .root | trim | nindent 2 }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $selector := dict "matchLabels" (include "aisix.selectorLabels" . | fromYaml) -}}
{{- $nodes := dict "maxSkew" 1 "topologyKey" "kubernetes.io/hostname" "whenUnsatisfiable" "ScheduleAnyway" -}}
{{- $constraints := ternary .values.topologySpreadConstraints (list $nodes) (hasKey .values "topologySpreadConstraints") -}}
{{- with $constraints }}
topologySpreadConstraints:
  {{- range . }}
  - {{- merge (deepCopy .) (dict "labelSelector" $selector "matchLabelKeys" (list "pod-template-hash")) | toYaml | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* The beginning of the service's container. root, component, values. */}}
{{- define "aisix.pod.container" -}}
name: {{ .component }}
image: {{ include "aisix.image" (dict "root" .root "component" .component "image" .values.image) }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args: [--config, /etc/aisix/config.yaml]
securityContext:
  {{- include "aisix.containerSecurityContext" . | nindent 2 }}
{{- with .values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Probes. port: its name; scheme; drain: seconds in which /livez answers 503 before the end. Old configuration, or an
     etcd or a Cloud that is away, makes no pod unready. */}}
{{- define "aisix.pod.probes" -}}
startupProbe:
  httpGet: {path: /livez, port: {{ .port }}, scheme: {{ .scheme }}}
  periodSeconds: 2
  timeoutSeconds: 3
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /livez, port: {{ .port }}, scheme: {{ .scheme }}}
  periodSeconds: 10
  timeoutSeconds: 5
  # Longer than the drain, in which /livez answers 503.
  failureThreshold: {{ add 4 (div (add (int .drain) 9) 10) }}
readinessProbe:
  httpGet: {path: /readyz, port: {{ .port }}, scheme: {{ .scheme }}}
  periodSeconds: 3
  timeoutSeconds: 3
  failureThreshold: 2
{{- end -}}

{{/* Variables: etcd's password (and its user, where the Secret has it), and the user's. root, component, values. */}}
{{- define "aisix.pod.env" -}}
{{- $external := eq .root.Values.etcd.mode "external" -}}
{{- $auth := include "aisix.etcd.auth" .root -}}
{{- if or $auth .values.extraEnv -}}
env:
  {{- if $auth }}
  {{- $secret := include "aisix.secret.etcdAuth" .root }}
  {{- $prefix := ternary "" (printf "%s-" .component) (and $external .root.Values.etcd.external.sharedUser) }}
  {{- if $external }}
  - name: AISIX_ETCD__USER
    valueFrom:
      secretKeyRef: {name: {{ $secret | quote }}, key: {{ $prefix }}user}
  {{- end }}
  - name: AISIX_ETCD_PASSWORD
    valueFrom:
      secretKeyRef: {name: {{ $secret | quote }}, key: {{ $prefix }}password}
  {{- end }}
  {{- with .values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* Entries of `volumeMounts`. root, component. */}}
{{- define "aisix.pod.mounts" -}}
- {name: config, mountPath: /etc/aisix, readOnly: true}
- {name: state, mountPath: /var/lib/aisix}
- {name: tmp, mountPath: /tmp}
{{- if .root.Values.keyring.keys }}
- {name: keyring, mountPath: /run/aisix/keyring, readOnly: true}
{{- end }}
{{- if include "aisix.etcd.tls" .root }}
- {name: etcd-tls, mountPath: /run/aisix/etcd, readOnly: true}
{{- end }}
{{- end -}}

{{/* Entries of `volumes`, in the same order. root, component, stateLimit. */}}
{{- define "aisix.pod.volumes" -}}
- name: config
  configMap:
    name: {{ include "aisix.fullname" .root }}-config
    items: [{key: {{ .component }}.yaml, path: config.yaml}]
- name: state
  emptyDir: {sizeLimit: {{ .stateLimit }}}
- name: tmp
  emptyDir: {medium: Memory, sizeLimit: 64Mi}
{{- if .root.Values.keyring.keys }}
{{ include "aisix.pod.secretVolume" (dict "name" "keyring" "secret" (include "aisix.secret.keyring" .root)) }}
{{- end }}
{{- if include "aisix.etcd.tls" .root }}
{{ include "aisix.pod.secretVolume" (dict "name" "etcd-tls" "secret" (include "aisix.secret.etcdClient" .)) }}
{{- end }}
{{- end -}}

{{/* A Secret as a volume that its group alone can read. name, secret; optional: whether a pod starts without it. */}}
{{- define "aisix.pod.secretVolume" -}}
- name: {{ .name }}
  secret:
    secretName: {{ .secret | quote }}
    defaultMode: 0440
    {{- if .optional }}
    optional: true
    {{- end }}
{{- end -}}

{{/* A PodDisruptionBudget, or nothing. root, component, name, budget. */}}
{{- define "aisix.disruptionBudget" -}}
{{- if .budget.enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "aisix.metadata" (dict "root" .root "component" .component "name" .name) | nindent 2 }}
spec:
  maxUnavailable: {{ .budget.maxUnavailable }}
  # A pod that is not ready anyway must not hold up the drain of its node.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "aisix.selectorLabels" . | nindent 6 }}
{{- end }}
{{- end -}}

{{/* A cert-manager Certificate for a listener, or nothing. root, component, tls. */}}
{{- define "aisix.certificate" -}}
{{- if and .tls.enabled .tls.certManager.enabled }}
{{- $name := include "aisix.secret.tls" . }}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  {{- include "aisix.metadata" (dict "root" .root "component" .component "name" $name) | nindent 2 }}
spec:
  secretName: {{ $name }}
  issuerRef:
    {{- toYaml .tls.certManager.issuerRef | nindent 4 }}
  dnsNames:
    {{- toYaml .tls.certManager.dnsNames | nindent 4 }}
  privateKey: {rotationPolicy: Always}
  usages: [digital signature, key encipherment, server auth]
{{- end }}
{{- end -}}
