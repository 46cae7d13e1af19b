{{/* The worker's environment: settings in clear, secrets by reference. */}}

{{- define "aiopype.env" -}}
- name: AIOPYPE_FLOW
  value: {{ .Values.flow.target | quote }}
- name: AIOPYPE_BROKER
  value: {{ .Values.kafka.brokers | quote }}
{{- with .Values.flow.namespace }}
- name: AIOPYPE_NAMESPACE
  value: {{ . | quote }}
{{- end }}
- name: AIOPYPE_DATA_DIR
  value: {{ .Values.dataDir.path | quote }}
- name: AIOPYPE_WEB_HOST # loopback without it, which the kubelet does not reach
  value: {{ .Values.web.host | quote }}
- name: AIOPYPE_LOG_FORMAT
  value: {{ .Values.logs.format | quote }}
- name: PYTHONDONTWRITEBYTECODE # there is nowhere to write it to
  value: "1"
{{- range $name, $value := .Values.settings }}
- name: {{ printf "AIOPYPE_%s" (upper $name) }}
  value: {{ $value | quote }}
{{- end }}
{{- include "aiopype.kafkaEnv" . }}
{{- include "aiopype.secretEnv" (dict "name" "AIOPYPE_WEB_TOKEN" "ref" .Values.web.token) }}
{{- include "aiopype.secretEnv" (dict "name" "AIOPYPE_SENTRY_DSN" "ref" .Values.sentry.dsn) }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "aiopype.kafkaEnv" -}}
{{- $protocol := include "aiopype.securityProtocol" . }}
{{- if ne $protocol "PLAINTEXT" }}
- name: AIOPYPE_SECURITY_PROTOCOL
  value: {{ $protocol }}
{{- end }}
{{- range $what := list "ca" "cert" "key" }}
{{- if index $.Values.kafka.tls $what }}
- name: {{ printf "AIOPYPE_SSL_%sFILE" (upper $what) }}
  value: {{ printf "/etc/aiopype/tls/%s.pem" $what }}
{{- end }}
{{- end }}
{{- with .Values.kafka.sasl }}
{{- if .mechanism }}
- name: AIOPYPE_SASL_MECHANISM
  value: {{ .mechanism }}
{{- end }}
{{- range $what := list "url" "scope" "provider" "file" }}
{{- with index $.Values.kafka.sasl.token $what }}
- name: {{ printf "AIOPYPE_SASL_TOKEN_%s" (upper $what) }}
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- with .extensions }}
- name: AIOPYPE_SASL_EXTENSIONS
  value: {{ . | quote }}
{{- end }}
{{- include "aiopype.secretEnv" (dict "name" "AIOPYPE_SASL_USERNAME" "ref" .username) }}
{{- include "aiopype.secretEnv" (dict "name" "AIOPYPE_SASL_PASSWORD" "ref" .password) }}
{{- end }}
{{- end }}

{{- define "aiopype.secretEnv" -}}
{{- if .ref }}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      {{- toYaml .ref | nindent 6 }}
{{- end }}
{{- end }}
