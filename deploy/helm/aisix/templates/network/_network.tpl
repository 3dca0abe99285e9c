{{/*
Parts of the network policies. An empty list of peers, or of ports, stands for all of them in a policy, so that every
rule with a list of the operator's goes through `aisix.network.rule`, which makes no rule at all of an empty one.
*/}}

{{/*
One rule. `way` is `from` or `to`; peers, ports (numbers, of TCP). Nothing where there are no peers, or no ports.
*/}}
{{- define "aisix.network.rule" -}}
{{- if and .peers .ports -}}
- {{ .way }}:
    {{- toYaml .peers | nindent 4 }}
  ports:
    {{- range .ports }}
    - {protocol: TCP, port: {{ int . }}}
    {{- end }}
{{- end }}
{{- end -}}

{{/* One rule for the pods of components of this release. root, way, components, ports. */}}
{{- define "aisix.network.ours" -}}
{{- $peers := list -}}
{{- range .components -}}
{{- $labels := include "aisix.selectorLabels" (dict "root" $.root "component" .) | fromYaml -}}
{{- $peers = append $peers (dict "podSelector" (dict "matchLabels" $labels)) -}}
{{- end -}}
{{- include "aisix.network.rule" (dict "way" .way "peers" $peers "ports" .ports) -}}
{{- end -}}

{{/*
Destinations of the operator's, where blocks of all addresses leave out those of metadata services: what answers there
gives out the node's own credentials. A list, as JSON.
*/}}
{{- define "aisix.network.away" -}}
{{- $metadata := dict
  "0.0.0.0/0" (list "169.254.0.0/16" "100.100.100.200/32" "168.63.129.16/32" "192.0.0.192/32")
  "::/0" (list "fe80::/10" "fd00:ec2::/32" "fd20:ce::/32")
-}}
{{- $peers := list -}}
{{- range . -}}
{{- $peer := deepCopy . -}}
{{- with dig "ipBlock" "cidr" "" $peer -}}
{{- with get $metadata . -}}
{{- $_ := set $peer.ipBlock "except" (concat (default list $peer.ipBlock.except) . | uniq) -}}
{{- end -}}
{{- end -}}
{{- $peers = append $peers $peer -}}
{{- end -}}
{{- toJson $peers -}}
{{- end -}}

{{/* The same as one rule. peers, ports. */}}
{{- define "aisix.network.toAway" -}}
{{- $peers := include "aisix.network.away" .peers | fromJsonArray -}}
{{- include "aisix.network.rule" (dict "way" "to" "peers" $peers "ports" .ports) -}}
{{- end -}}

{{/* Names. Takes the root. */}}
{{- define "aisix.network.toDns" -}}
{{- if and .Values.networkPolicy.dns .Values.networkPolicy.dnsPorts -}}
- to:
    {{- toYaml .Values.networkPolicy.dns | nindent 4 }}
  ports:
    {{- range .Values.networkPolicy.dnsPorts }}
    - {protocol: UDP, port: {{ int . }}}
    - {protocol: TCP, port: {{ int . }}}
    {{- end }}
{{- end }}
{{- end -}}

{{/* etcd: our own, or where the operator says that it is. Takes the root. */}}
{{- define "aisix.network.toEtcd" -}}
{{- if eq .Values.etcd.mode "bundled" -}}
{{- include "aisix.network.ours" (dict "root" . "way" "to" "components" (list "etcd") "ports" (list 2379)) -}}
{{- else -}}
{{- $peers := .Values.etcd.external.networkPolicyTo -}}
{{- $ports := list -}}
{{- range .Values.etcd.external.endpoints -}}
{{- $ports = append $ports (include "aisix.network.port" (dict "address" . "default" 2379) | int) -}}
{{- end -}}
{{- if not $peers -}}
{{- $blocks := list -}}
{{- $names := list -}}
{{- range .Values.etcd.external.endpoints -}}
{{- $host := regexReplaceAll ":[0-9]+/?$" (regexReplaceAll "^[a-z]+://" . "") "" -}}
{{- if regexMatch "^[0-9]+(\\.[0-9]+){3}$" $host -}}
{{- $blocks = append $blocks (dict "ipBlock" (dict "cidr" (printf "%s/32" $host))) -}}
{{- else -}}
{{- $names = append $names $host -}}
{{- end -}}
{{- end -}}
{{- $everywhere := list (dict "ipBlock" (dict "cidr" "0.0.0.0/0")) (dict "ipBlock" (dict "cidr" "::/0")) -}}
{{- $peers = ternary $everywhere $blocks (not (empty $names)) -}}
{{- end -}}
{{- include "aisix.network.toAway" (dict "peers" $peers "ports" ($ports | uniq)) -}}
{{- end -}}
{{- end -}}

{{/* The Kubernetes API. Takes the root. */}}
{{- define "aisix.network.toKubernetesApi" -}}
{{- $values := .Values.networkPolicy -}}
{{- include "aisix.network.toAway" (dict "peers" $values.kubernetesApi "ports" $values.kubernetesApiPorts) -}}
{{- end -}}

{{/* Scrapes of one port. root, port. */}}
{{- define "aisix.network.fromMonitoring" -}}
{{- $peers := .root.Values.networkPolicy.monitoring -}}
{{- include "aisix.network.rule" (dict "way" "from" "peers" $peers "ports" (list .port)) -}}
{{- end -}}

{{/* The port of `address`, a URL or host:port; `default` where it has none. */}}
{{- define "aisix.network.port" -}}
{{- $authority := regexReplaceAll "[/?#].*$" (regexReplaceAll "^[a-zA-Z]+://" .address "") "" -}}
{{- regexFind ":[0-9]+$" $authority | trimPrefix ":" | default (.default | toString) -}}
{{- end -}}

{{/*
`metadata:` and `podSelector:` of a policy for a component. root, component, and `name`, `annotations`, and `where`, more
of the selector.
*/}}
{{- define "aisix.network.head" -}}
{{- $name := .name | default (printf "%s-%s" (include "aisix.fullname" .root) .component) -}}
{{- $context := dict "root" .root "component" .component "name" $name "annotations" .annotations -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "aisix.metadata" $context | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "aisix.selectorLabels" . | nindent 6 }}
    {{- with .where }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* `ingress:` or `egress:` with rules that may be none. name, rules (text). */}}
{{- define "aisix.network.rules" -}}
{{- if trim .rules -}}
{{ .name }}:
  {{- trim .rules | nindent 2 }}
{{- else -}}
{{ .name }}: []
{{- end -}}
{{- end -}}
