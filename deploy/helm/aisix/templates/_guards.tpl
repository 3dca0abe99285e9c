{{/*
What cannot work is refused here, each with the fix. values.schema.json has the types; here is what belongs together.
*/}}

{{- define "aisix.guards" -}}
{{- include "aisix.guards.names" . -}}
{{- include "aisix.guards.config" . -}}
{{- include "aisix.guards.modes" . -}}
{{- include "aisix.guards.proxy" . -}}
{{- include "aisix.guards.admin" . -}}
{{- include "aisix.guards.etcd" . -}}
{{- range $of := list "proxy" "admin" "cloudAgent" -}}
{{- include "aisix.guards.budget" (dict "of" $of "budget" (get $.Values $of).podDisruptionBudget) -}}
{{- end -}}
{{- include "aisix.guards.env" (dict "root" . "of" "proxy" "list" .Values.proxy.extraEnv) -}}
{{- include "aisix.guards.env" (dict "root" . "of" "admin" "list" .Values.admin.extraEnv) -}}
{{- include "aisix.guards.env" (dict "root" . "of" "cloudAgent" "list" .Values.cloudAgent.extraEnv) -}}
{{- end -}}

{{/* Which of its keys the chart sets, or may not hold, and what to do instead. YAML: path below `config` -> the fix. */}}
{{- define "aisix.config.owned" -}}
resources_file: remove it; the chart runs the gateway from etcd (etcd.mode)
proxy.addr: remove it; the containers listen on port 3000, and proxy.service.port is what callers see (bindAddress has the address)
proxy.workers: set proxy.workers
proxy.tls: set proxy.tls.enabled, with proxy.tls.existingSecret or proxy.tls.certManager
admin.enabled: remove it; mode decides, selfHosted has an admin and managed has none
admin.addr: remove it; the container listens on port 3001, and admin.service.port is the Service's
admin.admin_keys: name a Secret in admin.existingSecret, and further keys in admin.extraKeys
admin.metrics_addr: remove it; the container serves metrics on port 9091
admin.tls: set admin.tls.enabled, with admin.tls.existingSecret or admin.tls.certManager
etcd.endpoints: set etcd.mode external and etcd.external.endpoints
etcd.user: set etcd.external.authSecret
etcd.password_env: set etcd.external.authSecret
etcd.tls.ca_cert_file: set etcd.external.tlsSecret
etcd.tls.client_cert_file: set etcd.external.tlsSecret
etcd.tls.client_key_file: set etcd.external.tlsSecret
shutdown.min_drain_secs: set proxy.drain.minDrainSeconds and admin.minDrainSeconds
observability.metrics.prometheus.addr: remove it; the container serves metrics on port 9090
managed.enabled: set mode
managed.cp_base_url: set cloudAgent.cloudUrl
managed.cp_ca_cert_file: set cloudAgent.caConfigMap
managed.cp_cert_pem: set cloudAgent.bundle.existingSecret
managed.cp_key_pem: a ConfigMap is no place for a key; set cloudAgent.bundle.existingSecret
managed.cp_ca_pem: set cloudAgent.bundle.existingSecret
managed.cp_cert_file: set cloudAgent.bundle.existingSecret
managed.cp_key_file: set cloudAgent.bundle.existingSecret
managed.cp_ca_file: set cloudAgent.bundle.existingSecret
managed.bootstrap.token: a ConfigMap is no place for a token; set cloudAgent.bootstrapToken.existingSecret
managed.bootstrap.token_file: set cloudAgent.bootstrapToken.existingSecret
managed.bootstrap.ca_file: set cloudAgent.caConfigMap
managed.bootstrap.ca_pin: set cloudAgent.caPin
managed.mtls_dir: remove it; the agent keeps its certificate in a Secret that the chart makes
managed.dp_id_file: remove it; the agent keeps its id in a Secret that the chart makes
managed.kubernetes_secret: remove it; the chart makes the Secret
managed.kubernetes_lease: remove it; the chart makes the Lease
managed.metrics_addr: remove it; the container serves metrics on port 9092
secrets.keyring: set keyring.existingSecret and keyring.keys
secrets.local_key_file: remove it; the keyring is in a Secret (keyring)
cache.redis.password: a ConfigMap is no place for a password; set AISIX_CACHE__REDIS__PASSWORD in proxy.extraEnv with valueFrom.secretKeyRef
ratelimit.redis.password: a ConfigMap is no place for a password; set AISIX_RATELIMIT__REDIS__PASSWORD in proxy.extraEnv with valueFrom.secretKeyRef
{{- end -}}

{{/* Sections that config.yaml has. */}}
{{- define "aisix.config.sections" -}}
proxy admin etcd upstream downstream shutdown observability managed secrets cache ratelimit
{{- end -}}

{{/* What lies at a path below a map, as JSON; nothing where there is nothing, or null. at, path. */}}
{{- define "aisix.config.found" -}}
{{- $at := .at -}}
{{- range splitList "." .path -}}
{{- if kindIs "map" $at -}}{{- $at = get $at . -}}{{- else -}}{{- $at = "" -}}{{- end -}}
{{- end -}}
{{- if not (or (kindIs "invalid" $at) (and (kindIs "string" $at) (eq $at ""))) -}}{{- toJson $at -}}{{- end -}}
{{- end -}}

{{- define "aisix.guards.config" -}}
{{- $config := default dict .Values.config -}}
{{- $sections := include "aisix.config.sections" . | splitList " " -}}
{{- $plain := list "resources_file" "bedrock_endpoint_url" -}}
{{- range $name, $value := $config -}}
{{- if not (has $name (concat $sections $plain)) -}}
{{- fail (printf "config.%s: there is no such setting. Remove it, or write one of: %s." $name (concat $sections $plain | join ", ")) -}}
{{- end -}}
{{- if and (has $name $sections) (not (kindIs "invalid" $value)) (not (kindIs "map" $value)) -}}
{{- fail (printf "config.%s: is a section. Put its settings below it, as docs/reference/configuration.md has them." $name) -}}
{{- end -}}
{{- end -}}
{{- range $path, $fix := include "aisix.config.owned" . | fromYaml -}}
{{- if include "aisix.config.found" (dict "at" $config "path" $path) -}}
{{- fail (printf "config.%s: is not set here. Instead: %s." $path $fix) -}}
{{- end -}}
{{- end -}}
{{- range $section := list "cache" "ratelimit" -}}
{{- $url := include "aisix.setting" (dict "root" $ "path" (printf "%s.redis.url" $section)) -}}
{{- if regexMatch "://[^/]*@" $url -}}
{{- fail (printf "config.%s.redis.url: holds a password, and a ConfigMap is no place for one. Set AISIX_%s__REDIS__URL in proxy.extraEnv with valueFrom.secretKeyRef." $section (upper $section)) -}}
{{- end -}}
{{- end -}}
{{- $providers := get (default dict $config.secrets) "providers" -}}
{{- range $index, $provider := ternary $providers list (kindIs "slice" $providers) -}}
{{- $options := get (ternary $provider dict (kindIs "map" $provider)) "options" -}}
{{- range $path := list "token" "auth.token" "auth.secret_id" "access_key_id" "secret_access_key" "session_token" "client_secret" "service_account" -}}
{{- $found := include "aisix.config.found" (dict "at" $options "path" $path) -}}
{{- if and $found (not (hasPrefix "\"$" $found)) -}}
{{- fail (printf "config.secrets.providers[%d].options.%s: is a secret, and a ConfigMap is no place for one. Write $env://AISIX_SECRET_... and set that variable in proxy.extraEnv with valueFrom.secretKeyRef." $index $path) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A Service's name is stricter than a release's. */}}
{{- define "aisix.guards.names" -}}
{{- $name := include "aisix.fullname" . -}}
{{- if not (regexMatch "^[a-z][-a-z0-9]*$" $name) -}}
{{- fail (printf "fullnameOverride: the name %q, of which the release's is a part, is none for a Service. Set it to one that begins with a letter, and has small letters, digits and dashes only." $name) -}}
{{- end -}}
{{- end -}}

{{/* of, budget. */}}
{{- define "aisix.guards.budget" -}}
{{- if and .budget.enabled (has (toString .budget.maxUnavailable) (list "0" "0%")) -}}
{{- fail (printf "%s.podDisruptionBudget.maxUnavailable: with 0 no node that has one of its pods can be drained. Set it to 1, or set %s.podDisruptionBudget.enabled: false." .of .of) -}}
{{- end -}}
{{- end -}}

{{/* No two of the same name. of, list. */}}
{{- define "aisix.guards.once" -}}
{{- $names := list -}}
{{- range .list -}}{{- $names = append $names .name -}}{{- end -}}
{{- if ne (len $names) (len (uniq $names)) -}}
{{- fail (printf "%s: a name is there twice. Choose another for one of them." .of) -}}
{{- end -}}
{{- end -}}

{{- define "aisix.guards.modes" -}}
{{- $values := .Values -}}
{{- $agent := .Values.cloudAgent -}}
{{- if not (has .Values.mode (list "selfHosted" "managed")) -}}
{{- fail (printf "mode: is %q. Set it to selfHosted or managed." (toString .Values.mode)) -}}
{{- end -}}
{{- if eq .Values.mode "managed" -}}
{{- if not $agent.cloudUrl -}}
{{- fail "cloudAgent.cloudUrl: is needed with mode managed. Set it to the URL of AISIX Cloud, https://host[:port]." -}}
{{- end -}}
{{- if not (regexMatch "^https://[^/?#@\\s]+/?$" $agent.cloudUrl) -}}
{{- fail "cloudAgent.cloudUrl: must be https://host[:port]. The certificate that says who we are needs TLS." -}}
{{- end -}}
{{- if and $agent.bootstrapToken.existingSecret $agent.bundle.existingSecret -}}
{{- fail "cloudAgent.bootstrapToken.existingSecret and cloudAgent.bundle.existingSecret: exclude each other. Leave one of them blank." -}}
{{- end -}}
{{- if not (or $agent.bootstrapToken.existingSecret $agent.bundle.existingSecret) -}}
{{- fail "cloudAgent: mode managed needs something to begin with. Set cloudAgent.bootstrapToken.existingSecret to a Secret with a one-time token (it may be deleted once the certificate is there; leave its name), or cloudAgent.bundle.existingSecret to one with tls.crt, tls.key and ca.crt." -}}
{{- end -}}
{{- if and $agent.bootstrapToken.existingSecret (not (or $agent.caPin $agent.caConfigMap)) -}}
{{- fail "cloudAgent.caPin: is needed with a token, or cloudAgent.caConfigMap: it says which server may be sent the token. Set caPin to the SHA-256 of the Cloud's authority, or caConfigMap to a ConfigMap with the authority under ca.crt." -}}
{{- end -}}
{{- if and $agent.caPin $agent.caConfigMap -}}
{{- fail "cloudAgent.caPin and cloudAgent.caConfigMap: exclude each other. Leave one of them blank." -}}
{{- end -}}
{{- if and $agent.caPin $agent.bundle.existingSecret -}}
{{- fail "cloudAgent.caPin: is for a token. Leave it blank: the bundle holds the authority as ca.crt." -}}
{{- end -}}
{{- if or $values.admin.existingSecret $values.admin.extraKeys $values.admin.tls.enabled -}}
{{- fail "admin: there is none with mode managed, the Cloud writes the resources. Remove admin.existingSecret, admin.extraKeys and admin.tls, or set mode to selfHosted." -}}
{{- end -}}
{{- if get (default dict .Values.config) "admin" -}}
{{- fail "config.admin: there is no admin with mode managed. Remove it, or set mode to selfHosted." -}}
{{- end -}}
{{- else if or $agent.cloudUrl $agent.bootstrapToken.existingSecret $agent.bundle.existingSecret $agent.caPin $agent.caConfigMap -}}
{{- fail "cloudAgent: has no effect with mode selfHosted. Set mode to managed, or remove cloudUrl, bootstrapToken, bundle, caPin and caConfigMap." -}}
{{- end -}}
{{- if and (not .Values.keyring.keys) (ne (include "aisix.setting" (dict "root" . "path" "secrets.allow_plaintext")) "true") -}}
{{- fail "keyring.keys: names no key, so that rows with secrets could not be stored. Name the keys, the first one encrypts; or set config.secrets.allow_plaintext: true where other gateways read the same etcd." -}}
{{- end -}}
{{- if ne (len .Values.keyring.keys) (len (uniq .Values.keyring.keys)) -}}
{{- fail "keyring.keys: names a key twice. Leave one of them." -}}
{{- end -}}
{{- if and (not .Values.keyring.existingSecret) .Values.keyring.keys (ne (join "," .Values.keyring.keys) "k1") -}}
{{- fail "keyring.keys: the keyring that is made by itself has the one key k1. To have others, put all keys into a Secret of yours (the first of them may be a copy of k1) and name it in keyring.existingSecret." -}}
{{- end -}}
{{- end -}}

{{- define "aisix.guards.tls" -}}
{{- $tls := .tls -}}
{{- if and $tls.certManager.enabled (not $tls.enabled) -}}
{{- fail (printf "%s.tls.certManager: has no effect without TLS. Set %s.tls.enabled: true." .of .of) -}}
{{- end -}}
{{- if $tls.enabled -}}
{{- if and $tls.existingSecret $tls.certManager.enabled -}}
{{- fail (printf "%s.tls.existingSecret and %s.tls.certManager: exclude each other. Leave existingSecret blank, or certManager.enabled false." .of .of) -}}
{{- end -}}
{{- if not (or $tls.existingSecret $tls.certManager.enabled) -}}
{{- fail (printf "%s.tls: needs a certificate. Set %s.tls.existingSecret to a Secret of type kubernetes.io/tls, or %s.tls.certManager.enabled: true." .of .of .of) -}}
{{- end -}}
{{- if and $tls.certManager.enabled (not (get (default dict $tls.certManager.issuerRef) "name")) -}}
{{- fail (printf "%s.tls.certManager.issuerRef: is needed. Set it to {name: ..., kind: Issuer or ClusterIssuer}." .of) -}}
{{- end -}}
{{- if and $tls.certManager.enabled (not $tls.certManager.dnsNames) -}}
{{- fail (printf "%s.tls.certManager.dnsNames: is needed. List the names that the listener is called by." .of) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "aisix.guards.proxy" -}}
{{- $proxy := .Values.proxy -}}
{{- include "aisix.guards.tls" (dict "of" "proxy" "tls" $proxy.tls) -}}
{{- $drain := include "aisix.proxy.drainSeconds" . | int -}}
{{- if not (gt (include "aisix.proxy.gracePeriod" . | int) $drain) -}}
{{- fail (printf "proxy.terminationGracePeriodSeconds: is %s, and a stream could be cut off. Set it above %d (drain.preStopSeconds + drain.minDrainSeconds + drain.longestStreamSeconds), leave it null, or lower proxy.drain.longestStreamSeconds." (include "aisix.proxy.gracePeriod" .) $drain) -}}
{{- end -}}
{{- if and $proxy.autoscaling.enabled (gt (int $proxy.autoscaling.minReplicas) (int $proxy.autoscaling.maxReplicas)) -}}
{{- fail "proxy.autoscaling.minReplicas: is above maxReplicas. Lower it, or raise maxReplicas." -}}
{{- end -}}
{{- if and $proxy.autoscaling.enabled $proxy.autoscaling.targetCPUUtilizationPercentage (not (get (default dict (get (default dict $proxy.resources) "requests")) "cpu")) -}}
{{- fail "proxy.resources.requests.cpu: is needed for autoscaling by CPU. Set it, or set proxy.autoscaling.targetCPUUtilizationPercentage to null and give proxy.autoscaling.metrics." -}}
{{- end -}}
{{- if and $proxy.autoscaling.enabled (not (or $proxy.autoscaling.targetCPUUtilizationPercentage $proxy.autoscaling.metrics)) -}}
{{- fail "proxy.autoscaling: has nothing to scale by. Set targetCPUUtilizationPercentage, or metrics." -}}
{{- end -}}
{{- if and $proxy.ingress.enabled (not $proxy.ingress.hosts) -}}
{{- fail "proxy.ingress.hosts: is empty. Set it to the names that callers use, such as [gateway.example.com]." -}}
{{- end -}}
{{- if and $proxy.httpRoute.enabled (not $proxy.httpRoute.parentRefs) -}}
{{- fail "proxy.httpRoute.parentRefs: is empty. Set it to [{name: <the Gateway>, namespace: <its namespace>}]." -}}
{{- end -}}
{{- if and $proxy.service.loadBalancerSourceRanges (ne $proxy.service.type "LoadBalancer") -}}
{{- fail "proxy.service.loadBalancerSourceRanges: would let everybody in, as the Service is no load balancer. Set proxy.service.type to LoadBalancer, or use networkPolicy.callers." -}}
{{- end -}}
{{- if and $proxy.service.externalTrafficPolicy (eq $proxy.service.type "ClusterIP") -}}
{{- fail "proxy.service.externalTrafficPolicy: is for LoadBalancer and NodePort. Set proxy.service.type, or leave it blank." -}}
{{- end -}}
{{- include "aisix.guards.once" (dict "of" "proxy.serviceAccount.tokens" "list" $proxy.serviceAccount.tokens) -}}
{{- $places := list -}}
{{- range $proxy.serviceAccount.tokens -}}
{{- if .asServiceAccount -}}{{- $places = append $places .name -}}{{- end -}}
{{- end -}}
{{- if gt (len $places) 1 -}}
{{- fail "proxy.serviceAccount.tokens: one at most can be asServiceAccount. Remove it from the others." -}}
{{- end -}}
{{- if and $places $proxy.serviceAccount.readSecrets -}}
{{- fail "proxy.serviceAccount.tokens: asServiceAccount excludes readSecrets, which needs the token for the Kubernetes API at the same place. Remove one of the two." -}}
{{- end -}}
{{- end -}}

{{- define "aisix.guards.admin" -}}
{{- $admin := .Values.admin -}}
{{- include "aisix.guards.tls" (dict "of" "admin" "tls" $admin.tls) -}}
{{- if and (ne $admin.service.type "ClusterIP") (not $admin.iKnowThisExposesTheAdmin) -}}
{{- fail (printf "admin.service.type: %s would show the admin to everybody who reaches the cluster's nodes or its load balancer. Set it to ClusterIP and use `kubectl port-forward`, or set admin.iKnowThisExposesTheAdmin: true." $admin.service.type) -}}
{{- end -}}
{{- if not (gt (int $admin.terminationGracePeriodSeconds) (int $admin.minDrainSeconds)) -}}
{{- fail "admin.terminationGracePeriodSeconds: must be above admin.minDrainSeconds. Raise it to 30 more." -}}
{{- end -}}
{{- range $index, $key := $admin.extraKeys -}}
{{- if not (and $key.name $key.existingSecret) -}}
{{- fail (printf "admin.extraKeys[%d]: needs name and existingSecret. Set it to {name: ..., role: viewer or admin, existingSecret: ..., key: ...}." $index) -}}
{{- end -}}
{{- if eq $key.name "admin" -}}
{{- fail (printf "admin.extraKeys[%d].name: admin is the name of the first key. Choose another." $index) -}}
{{- end -}}
{{- end -}}
{{- include "aisix.guards.once" (dict "of" "admin.extraKeys" "list" $admin.extraKeys) -}}
{{- end -}}

{{- define "aisix.guards.etcd" -}}
{{- $etcd := .Values.etcd -}}
{{- if not (has $etcd.mode (list "bundled" "external")) -}}
{{- fail (printf "etcd.mode: is %q. Set it to bundled or external." (toString $etcd.mode)) -}}
{{- end -}}
{{- if eq $etcd.mode "external" -}}
{{- if not $etcd.external.endpoints -}}
{{- fail "etcd.external.endpoints: is empty. List the members, https://host:2379 each; or set etcd.mode to bundled." -}}
{{- end -}}
{{- range $index, $endpoint := $etcd.external.endpoints -}}
{{- if and $etcd.external.tlsSecret (hasPrefix "http://" $endpoint) -}}
{{- fail (printf "etcd.external.endpoints[%d]: is http:// while etcd.external.tlsSecret is set. Write https://, or leave tlsSecret blank." $index) -}}
{{- end -}}
{{- end -}}
{{- else -}}
{{- if not (has (int $etcd.bundled.replicas) (list 1 3)) -}}
{{- fail (printf "etcd.bundled.replicas: is %d. Set it to 1 or 3: two members stand still when one is away." (int $etcd.bundled.replicas)) -}}
{{- end -}}
{{- if $etcd.external.endpoints -}}
{{- fail "etcd.external.endpoints: has no effect with etcd.mode bundled. Set etcd.mode to external, or remove the endpoints." -}}
{{- end -}}
{{- end -}}
{{- if and (include "aisix.setting" (dict "root" . "path" "etcd.tls")) (not (include "aisix.etcd.tls" .)) -}}
{{- fail "config.etcd.tls: needs TLS towards etcd. Set etcd.bundled.tls.enabled or etcd.external.tlsSecret, or remove it." -}}
{{- end -}}
{{- end -}}

{{/* No plain value for what is a secret by its name, and no way round the values. root, of, list. */}}
{{- define "aisix.guards.env" -}}
{{- $of := .of -}}
{{- $owned := include "aisix.config.owned" .root | fromYaml -}}
{{- range $index, $variable := .list -}}
{{- $name := upper (toString $variable.name) -}}
{{- if and (regexMatch "^AISIX_SECRET_|(PASSWORD|TOKEN|SECRET|_KEY|KEY_PEM|REDIS__URL|ADMIN_KEYS)$" $name) $variable.value -}}
{{- fail (printf "%s.extraEnv[%d]: %s is a secret, and a plain value would show it to everybody who may read Deployments. Use valueFrom.secretKeyRef." $of $index $variable.name) -}}
{{- end -}}
{{- $path := trimPrefix "AISIX_" $name | lower | replace "__" "." -}}
{{- if and (hasPrefix "AISIX_" $name) (hasKey $owned $path) (not (hasSuffix ".redis.password" $path)) -}}
{{- fail (printf "%s.extraEnv[%d]: %s would replace %s. Instead: %s." $of $index $variable.name $path (get $owned $path)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
