{{/* The pod of a script below files/tests, without its metadata. root, script; env, mounts, volumes: more of them, as text. */}}
{{- define "aisix.test.spec" -}}
spec:
  restartPolicy: Never
  activeDeadlineSeconds: 240
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: 5
  {{- with include "aisix.imagePullSecrets" .root | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  securityContext:
    {{- include "aisix.podSecurityContext" .root | trim | nindent 4 }}
  containers:
    - name: {{ .script }}
      image: {{ include "aisix.hookImage" .root | quote }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      command: [python, /opt/aisix-test/{{ .script }}.py]
      env:
        {{- .env | trim | nindent 8 }}
      {{- with .ports }}
      ports:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- include "aisix.containerSecurityContext" .root | nindent 8 }}
      resources:
        {{- toYaml .root.Values.hooks.resources | nindent 8 }}
      volumeMounts:
        - {name: scripts, mountPath: /opt/aisix-test, readOnly: true}
        {{- with .mounts }}
        {{- . | trim | nindent 8 }}
        {{- end }}
  volumes:
    - name: scripts
      configMap:
        name: {{ include "aisix.fullname" .root }}-test
    {{- with .volumes }}
    {{- . | trim | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* host:port of a Service of this release. root, service (what follows the full name), port. */}}
{{- define "aisix.test.address" -}}
{{- printf "%s-%s.%s.svc:%d" (include "aisix.fullname" .root) .service .root.Release.Namespace (int .port) -}}
{{- end -}}

{{/* Where the client finds what it tests. root, managed, proxy, metrics. */}}
{{- define "aisix.test.client.env" }}
- name: PROXY_URL
  value: {{ include "aisix.proxy.scheme" .root }}://{{ include "aisix.test.address" .proxy }}
- name: PROXY_METRICS_URL
  value: {{ if include "aisix.proxy.metrics" .root }}http://{{ include "aisix.test.address" .metrics }}{{ include "aisix.proxy.metricsPath" .root }}{{ else }}""{{ end }}
{{- if .managed }}
- name: AGENT_URL
  value: http://{{ include "aisix.test.address" (dict "root" .root "service" "cloud-agent-metrics" "port" 9092) }}
{{- else }}
- name: ADMIN_URL
  value: {{ include "aisix.admin.scheme" .root }}://{{ include "aisix.test.address" (dict "root" .root "service" "admin" "port" .root.Values.admin.service.port) }}
- name: ADMIN_KEY_FILE
  value: /run/aisix/admin/{{ include "aisix.secret.adminKey" .root }}
- name: PROVIDER_PORT
  value: "8080"
- name: POD_IP
  valueFrom:
    fieldRef: {fieldPath: status.podIP}
{{- end }}
{{- end }}

{{/* What the stranger tries. targets, enforced. */}}
{{- define "aisix.test.stranger.env" }}
- name: TARGETS
  value: {{ join " " .targets | quote }}
- name: EXPECT_ENFORCED
  value: {{ .enforced | quote }}
{{- end }}
