{{/* Fails where values do not fit together; the schema sees each by itself. */}}

{{- define "aiopype.check" -}}
{{- include "aiopype.checkTls" .Values.kafka.tls }}
{{- include "aiopype.checkSasl" .Values.kafka.sasl }}
{{- if and .Values.dataDir.claim.enabled (ne .Values.kind "StatefulSet") }}
{{- fail "dataDir.claim is of each pod by itself, which needs kind: StatefulSet" }}
{{- end }}
{{- end }}

{{- define "aiopype.checkTls" -}}
{{- if and (or .ca .cert .key) (not .enabled) }}
{{- fail "kafka.tls.ca, cert and key do nothing without kafka.tls.enabled: true" }}
{{- end }}
{{- if ne (empty .cert) (empty .key) }}
{{- fail "kafka.tls.cert and kafka.tls.key belong together; give both" }}
{{- end }}
{{- end }}

{{- define "aiopype.checkSasl" -}}
{{- $ways := compact (list .token.url .token.provider .token.file) }}
{{- $hasLogin := and .username .password }}
{{- if not .mechanism }}
{{- if or .username .password $ways .token.scope .extensions }}
{{- fail "what is in kafka.sasl does nothing without kafka.sasl.mechanism" }}
{{- end }}
{{- else if ne .mechanism "OAUTHBEARER" }}
{{- if or $ways .token.scope .extensions }}
{{- fail "kafka.sasl.token and extensions are for kafka.sasl.mechanism OAUTHBEARER" }}
{{- end }}
{{- if not $hasLogin }}
{{- fail (printf "kafka.sasl.mechanism %s needs kafka.sasl.username and kafka.sasl.password, each {name, key} of a secret" .mechanism) }}
{{- end }}
{{- else if ne (len $ways) 1 }}
{{- fail "kafka.sasl.mechanism OAUTHBEARER needs one of kafka.sasl.token.url, provider and file" }}
{{- else if and .token.url (not $hasLogin) }}
{{- fail "kafka.sasl.token.url needs kafka.sasl.username and kafka.sasl.password, the client's id and secret, each {name, key} of a secret" }}
{{- end }}
{{- end }}

{{/* KEDA looks at the brokers by itself and runs no code of a flow. */}}
{{- define "aiopype.checkScaling" -}}
{{- if or .token.provider .token.file }}
{{- fail "autoscaling: KEDA can ask for a token at kafka.sasl.token.url only" }}
{{- end }}
{{- end }}
