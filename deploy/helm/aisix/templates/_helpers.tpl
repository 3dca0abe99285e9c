{{/*
Names, labels, images and the other small things that every template uses. Those that take more than the root take a
dict: `include "aisix.labels" (dict "root" $ "component" "proxy")`.
*/}}

{{- define "aisix.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 36 | trimSuffix "-" -}}
{{- end -}}

{{/* What all names begin with. 36 letters at most: a CronJob may have 52, and
     `-etcd-maintain` has to fit behind it. */}}
{{- define "aisix.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 36 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 36 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 36 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* "true" in managed mode, else nothing. */}}
{{- define "aisix.managed" -}}
{{- if eq .Values.mode "managed" -}}true{{- end -}}
{{- end -}}

{{/* What Services and policies select pods by: it never changes. root, component. */}}
{{- define "aisix.selectorLabels" -}}
app.kubernetes.io/name: {{ include "aisix.name" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Labels of an object. root, component, and `extra`, which may not replace ours. */}}
{{- define "aisix.labels" -}}
{{- $labels := include "aisix.podLabels" . | fromYaml -}}
{{- $chart := printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" -}}
{{- merge (dict "helm.sh/chart" $chart) $labels | toYaml -}}
{{- end -}}

{{/* Labels of a pod: without the chart's version, which would restart it. root, component, extra. */}}
{{- define "aisix.podLabels" -}}
{{- $ours := include "aisix.selectorLabels" . | fromYaml -}}
{{- $_ := set $ours "app.kubernetes.io/version" (.root.Chart.AppVersion | replace "+" "_" | trunc 63) -}}
{{- $_ := set $ours "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- $_ := set $ours "app.kubernetes.io/part-of" "aisix" -}}
{{- merge $ours (deepCopy (default dict .extra)) (deepCopy .root.Values.commonLabels) | toYaml -}}
{{- end -}}

{{/* The annotations of an object, as a map that may be empty. root, and `extra`, which wins. */}}
{{- define "aisix.annotations" -}}
{{- merge (deepCopy (default dict .extra)) (deepCopy .root.Values.commonAnnotations) | toYaml -}}
{{- end -}}

{{/* `metadata:` of an object, without its indentation. root, component, name, and `labels` and `annotations`. */}}
{{- define "aisix.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- include "aisix.labels" (dict "root" .root "component" .component "extra" .labels) | nindent 2 }}
{{- with include "aisix.annotations" (dict "root" .root "extra" .annotations) | fromYaml }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The image of a component. root, component, and its `image` values. */}}
{{- define "aisix.image" -}}
{{- $repository := default (printf "%s/aisix-%s" (trimSuffix "/" .root.Values.image.repository) .component) .image.repository -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (.image.tag | default .root.Values.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* The image of the one-off jobs: any service's image can run them. */}}
{{- define "aisix.hookImage" -}}
{{- $component := ternary "cloud-agent" "admin" (eq .Values.mode "managed") -}}
{{- $of := ternary .Values.cloudAgent.image .Values.admin.image (eq .Values.mode "managed") -}}
{{- $own := .Values.hooks.image -}}
{{- $image := ternary $own $of (or $own.repository $own.tag $own.digest | not | not) -}}
{{- include "aisix.image" (dict "root" . "component" $component "image" $image) -}}
{{- end -}}

{{/* `imagePullSecrets:`, or nothing. Takes the root. Entries may be names or {name: ...}. */}}
{{- define "aisix.imagePullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ ternary . (get (ternary . dict (kindIs "map" .)) "name") (kindIs "string" .) | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* The restricted profile, for a pod. Takes the root. */}}
{{- define "aisix.podSecurityContext" -}}
{{- with .Values.securityContext -}}
{{- range $name := list "runAsUser" "runAsGroup" "fsGroup" -}}
{{- if not (kindIs "invalid" (get $.Values.securityContext $name)) }}
{{ $name }}: {{ get $.Values.securityContext $name | int64 }}
{{- end -}}
{{- end -}}
{{- end }}
runAsNonRoot: true
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* The restricted profile, for a container. */}}
{{- define "aisix.containerSecurityContext" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
{{- end -}}

{{/* root, component. */}}
{{- define "aisix.serviceAccountName" -}}
{{- printf "%s-%s" (include "aisix.fullname" .root) .component -}}
{{- end -}}

{{/* Where things are scraped, as annotations of a pod. root, port, path. A map that may be empty. */}}
{{- define "aisix.scrapeAnnotations" -}}
{{- if .root.Values.metrics.annotations }}
prometheus.io/scrape: "true"
prometheus.io/port: {{ .port | toString | quote }}
prometheus.io/path: {{ default "/metrics" .path | quote }}
{{- end }}
{{- end -}}

{{/* Names of Secrets. Each takes the root, but for `etcdClient`: root, component. */}}

{{- define "aisix.secret.admin" -}}
{{- default (printf "%s-admin" (include "aisix.fullname" .)) .Values.admin.existingSecret -}}
{{- end -}}

{{/* The key in it. The Secret that the hook makes has `admin-key`. */}}
{{- define "aisix.secret.adminKey" -}}
{{- ternary .Values.admin.existingSecretKey "admin-key" (not (empty .Values.admin.existingSecret)) -}}
{{- end -}}

{{- define "aisix.secret.keyring" -}}
{{- default (printf "%s-keyring" (include "aisix.fullname" .)) .Values.keyring.existingSecret -}}
{{- end -}}

{{- define "aisix.secret.etcdAuth" -}}
{{- if eq .Values.etcd.mode "external" -}}
{{- .Values.etcd.external.authSecret -}}
{{- else -}}
{{- default (printf "%s-etcd-auth" (include "aisix.fullname" .)) .Values.etcd.bundled.auth.existingSecret -}}
{{- end -}}
{{- end -}}

{{/* ca.crt, tls.crt and tls.key of etcd's members. */}}
{{- define "aisix.secret.etcdTls" -}}
{{- default (printf "%s-etcd-tls" (include "aisix.fullname" .)) .Values.etcd.bundled.tls.existingSecret -}}
{{- end -}}

{{/* ca.crt, tls.crt and tls.key of a client of etcd. root, component. */}}
{{- define "aisix.secret.etcdClient" -}}
{{- if eq .root.Values.etcd.mode "external" -}}
{{- .root.Values.etcd.external.tlsSecret -}}
{{- else -}}
{{- $own := printf "%s-etcd-client-%s" (include "aisix.fullname" .root) .component -}}
{{- default $own .root.Values.etcd.bundled.tls.existingSecret -}}
{{- end -}}
{{- end -}}

{{/* What the cloud agent keeps its certificate in. */}}
{{- define "aisix.secret.cloud" -}}
{{- printf "%s-cloud" (include "aisix.fullname" .) -}}
{{- end -}}

{{/* Certificate of a listener. root, component, and its `tls` values. */}}
{{- define "aisix.secret.tls" -}}
{{- default (printf "%s-%s-tls" (include "aisix.fullname" .root) .component) .tls.existingSecret -}}
{{- end -}}

{{/* What the user's `config` says at a path, as text; nothing where it says nothing. root, path. */}}
{{- define "aisix.setting" -}}
{{- $at := .root.Values.config -}}
{{- range splitList "." .path -}}
{{- $at = ternary (get (ternary $at dict (kindIs "map" $at)) .) "" (kindIs "map" $at) -}}
{{- end -}}
{{- if not (kindIs "invalid" $at) -}}{{- if kindIs "map" $at -}}{{- toJson $at -}}{{- else -}}{{- toString $at -}}{{- end -}}{{- end -}}
{{- end -}}

{{/* etcd. Each takes the root; "true" or nothing where it is a question. */}}

{{- define "aisix.etcd.tls" -}}
{{- if eq .Values.etcd.mode "external" -}}
{{- if .Values.etcd.external.tlsSecret -}}true{{- end -}}
{{- else if .Values.etcd.bundled.tls.enabled -}}true{{- end -}}
{{- end -}}

{{- define "aisix.etcd.auth" -}}
{{- if eq .Values.etcd.mode "external" -}}
{{- if .Values.etcd.external.authSecret -}}true{{- end -}}
{{- else if .Values.etcd.bundled.auth.enabled -}}true{{- end -}}
{{- end -}}

{{/* A list, as JSON: `include "aisix.etcd.endpoints" . | fromJsonArray`. */}}
{{- define "aisix.etcd.endpoints" -}}
{{- if eq .Values.etcd.mode "external" -}}
{{- .Values.etcd.external.endpoints | toJson -}}
{{- else -}}
{{- $scheme := ternary "https" "http" .Values.etcd.bundled.tls.enabled -}}
{{- list (printf "%s://%s-etcd.%s.svc:2379" $scheme (include "aisix.fullname" .) .Release.Namespace) | toJson -}}
{{- end -}}
{{- end -}}

{{/* `etcd.prefix` and `etcd.env_id` as the services have them. */}}
{{- define "aisix.etcd.prefix" -}}
{{- include "aisix.setting" (dict "root" . "path" "etcd.prefix") | default "/aisix" -}}
{{- end -}}

{{- define "aisix.etcd.envId" -}}
{{- include "aisix.setting" (dict "root" . "path" "etcd.env_id") -}}
{{- end -}}

{{/* Whether the proxies have a metrics listener, and the path of its page. Take the root. */}}
{{- define "aisix.proxy.metrics" -}}
{{- $enabled := include "aisix.setting" (dict "root" . "path" "observability.metrics.prometheus.enabled") -}}
{{- if ne $enabled "false" -}}true{{- end -}}
{{- end -}}

{{- define "aisix.proxy.metricsPath" -}}
{{- $path := include "aisix.setting" (dict "root" . "path" "observability.metrics.prometheus.path") | default "/metrics" -}}
{{- ternary $path (printf "/%s" $path) (hasPrefix "/" $path) -}}
{{- end -}}

{{/* `http` or `https` of the callers' listener, and of the admin's. Take the root. */}}
{{- define "aisix.proxy.scheme" -}}
{{- ternary "https" "http" .Values.proxy.tls.enabled -}}
{{- end -}}

{{- define "aisix.admin.scheme" -}}
{{- ternary "https" "http" .Values.admin.tls.enabled -}}
{{- end -}}

{{/* The port of the callers' Service. */}}
{{- define "aisix.proxy.servicePort" -}}
{{- ternary .Values.proxy.service.tlsPort .Values.proxy.service.port .Values.proxy.tls.enabled | int -}}
{{- end -}}

{{/* Seconds that an orderly end of a proxy may take. */}}
{{- define "aisix.proxy.drainSeconds" -}}
{{- $drain := .Values.proxy.drain -}}
{{- add (int $drain.preStopSeconds) (int $drain.minDrainSeconds) (int $drain.longestStreamSeconds) -}}
{{- end -}}

{{- define "aisix.proxy.gracePeriod" -}}
{{- $grace := .Values.proxy.terminationGracePeriodSeconds -}}
{{- if kindIs "invalid" $grace -}}{{- add (include "aisix.proxy.drainSeconds" . | int) 10 -}}{{- else -}}{{- int $grace -}}{{- end -}}
{{- end -}}
