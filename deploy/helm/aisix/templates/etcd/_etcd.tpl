{{/*
The bundled etcd and the jobs around it. Each takes the root, unless it says otherwise.
*/}}

{{- define "aisix.etcd.name" -}}
{{- printf "%s-etcd" (include "aisix.fullname" .) -}}
{{- end -}}

{{/* How many members there are to be. */}}
{{- define "aisix.etcd.members" -}}
{{- int .Values.etcd.bundled.replicas -}}
{{- end -}}

{{/* The snapshot that is to take the place of the data; nothing runs meanwhile. */}}
{{- define "aisix.etcd.restores" -}}
{{- dig "restore" "snapshot" "" .Values.etcd.bundled -}}
{{- end -}}

{{- define "aisix.etcd.scheme" -}}
{{- ternary "https" "http" .Values.etcd.bundled.tls.enabled -}}
{{- end -}}

{{/* Under which name one member is reached. root, number. */}}
{{- define "aisix.etcd.memberHost" -}}
{{- $name := include "aisix.etcd.name" .root -}}
{{- printf "%s-%v.%s-headless.%s.svc" $name .number $name .root.Release.Namespace -}}
{{- end -}}

{{- define "aisix.etcd.initialCluster" -}}
{{- $members := list -}}
{{- range $number := until (include "aisix.etcd.members" . | int) -}}
{{- $host := include "aisix.etcd.memberHost" (dict "root" $ "number" $number) -}}
{{- $members = append $members (printf "%s-%d=%s://%s:2380" (include "aisix.etcd.name" $) $number (include "aisix.etcd.scheme" $) $host) -}}
{{- end -}}
{{- join "," $members -}}
{{- end -}}

{{- define "aisix.etcd.clusterToken" -}}
{{- printf "%s-%s" .Release.Namespace (include "aisix.etcd.name" .) -}}
{{- end -}}

{{- define "aisix.etcd.image" -}}
{{- $image := .Values.etcd.bundled.image -}}
{{- if $image.digest -}}{{- printf "%s@%s" $image.repository $image.digest -}}{{- else -}}{{- printf "%s:%s" $image.repository $image.tag -}}{{- end -}}
{{- end -}}

{{/* Whether the hook makes the certificates; "true" or nothing. */}}
{{- define "aisix.etcd.ownAuthority" -}}
{{- $tls := .Values.etcd.bundled.tls -}}
{{- if and (eq .Values.etcd.mode "bundled") $tls.enabled (not $tls.certManager.enabled) (not $tls.existingSecret) -}}true{{- end -}}
{{- end -}}

{{/* Those who call etcd, each with a certificate of its own, as JSON. `hook`: the jobs. */}}
{{- define "aisix.etcd.clients" -}}
{{- list "proxy" (ternary "cloud-agent" "admin" (eq .Values.mode "managed")) "hook" | toJson -}}
{{- end -}}

{{/* What the members' certificate holds for, as JSON: three members, so that a cluster can grow. */}}
{{- define "aisix.etcd.hosts" -}}
{{- $name := include "aisix.etcd.name" . -}}
{{- $service := printf "%s.%s.svc" $name .Release.Namespace -}}
{{- $hosts := list $name (printf "%s.%s" $name .Release.Namespace) $service (printf "%s.cluster.local" $service) -}}
{{- range $number := until 3 -}}
{{- $host := include "aisix.etcd.memberHost" (dict "root" $ "number" $number) -}}
{{- $hosts = concat $hosts (list $host (printf "%s.cluster.local" $host)) -}}
{{- end -}}
{{- append $hosts "localhost" | toJson -}}
{{- end -}}

{{/* Arguments of a job that calls etcd. root, all: every member by itself; otherwise whichever answers. */}}
{{- define "aisix.etcd.jobArguments" -}}
{{- $arguments := list -}}
{{- range $number := until (include "aisix.etcd.members" .root | int) -}}
{{- $host := include "aisix.etcd.memberHost" (dict "root" $.root "number" $number) -}}
{{- $arguments = append $arguments (printf "--endpoint=%s://%s:2379" (include "aisix.etcd.scheme" $.root) $host) -}}
{{- end -}}
{{- if .root.Values.etcd.bundled.tls.enabled -}}
{{- $arguments = concat $arguments (list "--ca=/run/aisix/etcd/ca.crt" "--cert=/run/aisix/etcd/tls.crt" "--key=/run/aisix/etcd/tls.key") -}}
{{- end -}}
{{- if .root.Values.etcd.bundled.auth.enabled -}}
{{- $arguments = append $arguments "--credentials=/run/aisix/etcd-auth" -}}
{{- end -}}
{{- toJson $arguments -}}
{{- end -}}

{{/*
A job's pod, `metadata:` and `spec:`. root, job (its name), arguments (a list), and what it needs besides: all (all
users' passwords instead of root's alone), volumes, mounts, restart, account, token.
*/}}
{{- define "aisix.job.pod" -}}
metadata:
  labels:
    {{- include "aisix.podLabels" (dict "root" .root "component" "hook" "extra" (dict "aisix.io/job" .job)) | nindent 4 }}
  {{- with include "aisix.annotations" (dict "root" .root) | fromYaml }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  restartPolicy: {{ default "OnFailure" .restart }}
  serviceAccountName: {{ .account }}
  automountServiceAccountToken: {{ default false .token }}
  enableServiceLinks: false
  {{- with include "aisix.imagePullSecrets" .root | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  securityContext:
    {{- include "aisix.podSecurityContext" .root | trim | nindent 4 }}
  {{- with .init }}
  initContainers:
    {{- . | nindent 4 }}
  {{- end }}
  containers:
    {{- if .container }}
    {{- .container | nindent 4 }}
    {{- else }}
    {{- include "aisix.job.container" (dict "root" .root "name" .job "arguments" .arguments "mounts" .mounts) | nindent 4 }}
    {{- end }}
  volumes:
    - name: tmp
      emptyDir: {medium: Memory, sizeLimit: 16Mi}
    {{- with .volumes }}
    {{- . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* A container of our own image that runs one command. root, name, arguments, mounts. */}}
{{- define "aisix.job.container" -}}
- name: {{ .name }}
  image: {{ include "aisix.hookImage" .root | quote }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command: [python, -m, aisix_common.install]
  args:
    {{- range .arguments }}
    - {{ . | quote }}
    {{- end }}
  securityContext:
    {{- include "aisix.containerSecurityContext" .root | nindent 4 }}
  resources:
    {{- toYaml .root.Values.hooks.resources | nindent 4 }}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
    {{- with .mounts }}
    {{- . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* Mounts of a job that calls etcd. */}}
{{- define "aisix.etcd.jobMounts" -}}
{{- if .Values.etcd.bundled.tls.enabled }}
- {name: etcd-tls, mountPath: /run/aisix/etcd, readOnly: true}
{{- end }}
{{- if .Values.etcd.bundled.auth.enabled }}
- {name: etcd-auth, mountPath: /run/aisix/etcd-auth, readOnly: true}
{{- end }}
{{- end -}}

{{/* Its volumes. root, all: the passwords of all users, not of root alone. */}}
{{- define "aisix.etcd.jobVolumes" -}}
{{- if .root.Values.etcd.bundled.tls.enabled }}
- name: etcd-tls
  secret:
    secretName: {{ include "aisix.secret.etcdClient" (dict "root" .root "component" "hook") | quote }}
    defaultMode: 0440
{{- end }}
{{- if .root.Values.etcd.bundled.auth.enabled }}
- name: etcd-auth
  secret:
    secretName: {{ include "aisix.secret.etcdAuth" .root | quote }}
    defaultMode: 0440
    {{- if not .all }}
    items:
      - {key: root-password, path: root-password}
    {{- end }}
{{- end }}
{{- end -}}

{{/* What is wrong in the values of the bundled etcd, with the fix. */}}
{{- define "aisix.etcd.guards" -}}
{{- $etcd := .Values.etcd.bundled -}}
{{- if and (not $etcd.image.digest) (regexMatch "^v?(3\\.[0-4]\\.|3\\.5\\.[0-2]([^0-9]|$)|2\\.)" (toString $etcd.image.tag)) -}}
{{- fail (printf "etcd.bundled.image.tag: %s is not maintained, or may corrupt its data (3.5.0 to 3.5.2). Set it to a current 3.5 or 3.6." $etcd.image.tag) -}}
{{- end -}}
{{- if and $etcd.tls.certManager.enabled (not (get (default dict $etcd.tls.certManager.issuerRef) "name")) -}}
{{- fail "etcd.bundled.tls.certManager.issuerRef: is needed. Set it to {name: ..., kind: Issuer} of an authority that is etcd's alone: whoever has a certificate of it may connect." -}}
{{- end -}}
{{- if and $etcd.tls.certManager.enabled $etcd.tls.existingSecret -}}
{{- fail "etcd.bundled.tls: certManager and existingSecret exclude each other. Leave existingSecret blank, or certManager.enabled false." -}}
{{- end -}}
{{- if and (not $etcd.tls.enabled) (or $etcd.tls.certManager.enabled $etcd.tls.existingSecret) -}}
{{- fail "etcd.bundled.tls: certManager and existingSecret have no effect without TLS. Set etcd.bundled.tls.enabled: true." -}}
{{- end -}}
{{- if and $etcd.backup.enabled (not $etcd.backup.existingClaim) -}}
{{- fail "etcd.bundled.backup.existingClaim: is needed for backups. Set it to a PersistentVolumeClaim that is not of this release, best on other disks." -}}
{{- end -}}
{{- if and $etcd.backup.enabled (lt (int $etcd.backup.keep) 1) -}}
{{- fail "etcd.bundled.backup.keep: must be at least 1." -}}
{{- end -}}
{{- include "aisix.guards.budget" (dict "of" "etcd.bundled" "budget" $etcd.podDisruptionBudget) -}}
{{- if and (eq (int $etcd.replicas) 3) $etcd.podDisruptionBudget.enabled (ne (toString $etcd.podDisruptionBudget.maxUnavailable) "1") -}}
{{- fail (printf "etcd.bundled.podDisruptionBudget.maxUnavailable: is %v, and three members stand still when two are away. Set it to 1." $etcd.podDisruptionBudget.maxUnavailable) -}}
{{- end -}}
{{- if and (eq (int $etcd.replicas) 3) (not $etcd.persistence.enabled) -}}
{{- fail "etcd.bundled.persistence.enabled: three members without disks cannot come back. Set it to true, or etcd.bundled.replicas to 1." -}}
{{- end -}}
{{- if include "aisix.etcd.restores" . -}}
{{- if not (regexMatch "^[A-Za-z0-9][A-Za-z0-9._-]*$" (include "aisix.etcd.restores" .)) -}}
{{- fail "etcd.bundled.restore.snapshot: must be the name of a file in the backup's claim, without a folder." -}}
{{- end -}}
{{- if not (and $etcd.backup.existingClaim $etcd.persistence.enabled) -}}
{{- fail "etcd.bundled.restore.snapshot: needs etcd.bundled.backup.existingClaim, where the snapshot is, and etcd.bundled.persistence.enabled." -}}
{{- end -}}
{{- end -}}
{{- end -}}
