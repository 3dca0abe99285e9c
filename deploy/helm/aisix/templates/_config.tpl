{{/*
config.yaml of each service: the user's `config`, and what the chart sets. Nothing secret is in it: secrets are files
below /run/aisix, or variables.
*/}}

{{/* The settings under `config` with what the chart sets. root, component. */}}
{{- define "aisix.config" -}}
{{- include "aisix.guards" .root -}}
{{- $root := .root -}}
{{- $values := .root.Values -}}
{{- $managed := eq $values.mode "managed" -}}
{{- $config := include "aisix.config.withoutNulls" (default dict $values.config) | fromJson -}}
{{- $drain := dict "proxy" $values.proxy.drain.minDrainSeconds "admin" $values.admin.minDrainSeconds "cloud-agent" 0 -}}
{{- $set := dict
  "proxy" (dict "addr" (printf "%s:3000" $values.bindAddress) "workers" (int $values.proxy.workers))
  "shutdown" (dict "min_drain_secs" (get $drain .component | int))
  "observability" (dict "metrics" (dict "prometheus" (dict "addr" (printf "%s:9090" $values.bindAddress))))
  "etcd" (include "aisix.config.etcd" . | fromJson)
  "admin" (dict "enabled" false)
-}}
{{- $secrets := dict -}}
{{- if $values.keyring.keys -}}
{{- $keyring := list -}}
{{- range $values.keyring.keys -}}
{{- $keyring = append $keyring (dict "id" . "file" (printf "/run/aisix/keyring/%s" .)) -}}
{{- end -}}
{{- $_ := set $secrets "keyring" $keyring -}}
{{- end -}}
{{- if and $values.proxy.serviceAccount.readSecrets (not (hasKey (default dict $config.secrets) "kubernetes_allow")) -}}
{{- $allow := list -}}
{{- range $values.proxy.serviceAccount.readSecrets -}}
{{- $allow = append $allow (printf "%s/%s" $root.Release.Namespace .) -}}
{{- end -}}
{{- $_ := set $secrets "kubernetes_allow" $allow -}}
{{- end -}}
{{- if $secrets -}}
{{- $_ := set $set "secrets" $secrets -}}
{{- end -}}
{{- if eq .component "admin" -}}
{{- $_ := set $set "admin" (include "aisix.config.admin" . | fromJson) -}}
{{- end -}}
{{- if and (eq .component "proxy") $values.proxy.tls.enabled -}}
{{- $_ := set $set.proxy "tls" (dict "cert_file" "/run/aisix/tls/tls.crt" "key_file" "/run/aisix/tls/tls.key") -}}
{{- end -}}
{{- if $managed -}}
{{- $_ := set $set "managed" (include "aisix.config.managed" . | fromJson) -}}
{{- end -}}
{{- mustMergeOverwrite $config $set | toYaml -}}
{{- end -}}

{{/* A map without what is null in it: null is the same as left out. Takes the map; JSON. */}}
{{- define "aisix.config.withoutNulls" -}}
{{- $kept := dict -}}
{{- range $name, $value := . -}}
{{- if kindIs "map" $value -}}
{{- $_ := set $kept $name (include "aisix.config.withoutNulls" $value | fromJson) -}}
{{- else if not (kindIs "invalid" $value) -}}
{{- $_ := set $kept $name $value -}}
{{- end -}}
{{- end -}}
{{- toJson $kept -}}
{{- end -}}

{{- define "aisix.config.etcd" -}}
{{- $set := dict "endpoints" (include "aisix.etcd.endpoints" .root | fromJsonArray) -}}
{{- if include "aisix.etcd.tls" .root -}}
{{- $_ := set $set "tls" (dict
  "ca_cert_file" "/run/aisix/etcd/ca.crt"
  "client_cert_file" "/run/aisix/etcd/tls.crt"
  "client_key_file" "/run/aisix/etcd/tls.key"
) -}}
{{- end -}}
{{- if include "aisix.etcd.auth" .root -}}
{{- $_ := set $set "password_env" "AISIX_ETCD_PASSWORD" -}}
{{- if eq .root.Values.etcd.mode "bundled" -}}
{{- $_ := set $set "user" .component -}}
{{- end -}}
{{- end -}}
{{- toJson $set -}}
{{- end -}}

{{- define "aisix.config.admin" -}}
{{- $values := .root.Values -}}
{{- $first := dict "name" "admin" "key_file" (printf "/run/aisix/admin/%s" (include "aisix.secret.adminKey" .root)) -}}
{{- $keys := list $first -}}
{{- range $values.admin.extraKeys -}}
{{- $file := printf "/run/aisix/admin-%s/%s" .name (default "admin-key" .key) -}}
{{- $keys = append $keys (dict "name" .name "role" (default "viewer" .role) "key_file" $file) -}}
{{- end -}}
{{- $set := dict
  "enabled" true
  "addr" (printf "%s:3001" $values.bindAddress)
  "metrics_addr" (printf "%s:9091" $values.bindAddress)
  "admin_keys" $keys
-}}
{{- if $values.admin.tls.enabled -}}
{{- $_ := set $set "tls" (dict "cert_file" "/run/aisix/tls/tls.crt" "key_file" "/run/aisix/tls/tls.key") -}}
{{- end -}}
{{- if not (or (hasKey (default dict (get (default dict $values.config) "admin")) "playground_proxy_url") $values.proxy.tls.enabled) -}}
{{- $host := printf "%s-proxy.%s.svc" (include "aisix.fullname" .root) .root.Release.Namespace -}}
{{- $_ := set $set "playground_proxy_url" (printf "http://%s:%s" $host (include "aisix.proxy.servicePort" .root)) -}}
{{- end -}}
{{- toJson $set -}}
{{- end -}}

{{/* The proxies learn no more of the Cloud than its name. */}}
{{- define "aisix.config.managed" -}}
{{- $agent := .root.Values.cloudAgent -}}
{{- $set := dict "enabled" true "cp_base_url" $agent.cloudUrl -}}
{{- if eq .component "cloud-agent" -}}
{{- $_ := set $set "metrics_addr" (printf "%s:9092" .root.Values.bindAddress) -}}
{{- $_ := set $set "kubernetes_secret" (include "aisix.secret.cloud" .root) -}}
{{- $_ := set $set "kubernetes_lease" (printf "%s-cloud-agent" (include "aisix.fullname" .root)) -}}
{{- if $agent.bundle.existingSecret -}}
{{- $_ := set $set "cp_cert_file" "/run/aisix/cloud-bundle/tls.crt" -}}
{{- $_ := set $set "cp_key_file" "/run/aisix/cloud-bundle/tls.key" -}}
{{- $_ := set $set "cp_ca_file" "/run/aisix/cloud-bundle/ca.crt" -}}
{{- if $agent.caConfigMap -}}
{{- $_ := set $set "cp_ca_cert_file" "/run/aisix/cloud-ca/ca.crt" -}}
{{- end -}}
{{- else -}}
{{- $bootstrap := dict "token_file" (printf "/run/aisix/cloud-token/%s" $agent.bootstrapToken.key) -}}
{{- if $agent.caConfigMap -}}
{{- $_ := set $bootstrap "ca_file" "/run/aisix/cloud-ca/ca.crt" -}}
{{- else -}}
{{- $_ := set $bootstrap "ca_pin" $agent.caPin -}}
{{- end -}}
{{- $_ := set $set "bootstrap" $bootstrap -}}
{{- end -}}
{{- end -}}
{{- toJson $set -}}
{{- end -}}
