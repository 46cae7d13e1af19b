{{/* Names, labels, and what is made of several values. */}}

{{- define "aiopype.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 53 | trimSuffix "-" }}
{{- end }}

{{/* 53: a StatefulSet's pods and a Deployment's replica sets need room behind it. */}}
{{- define "aiopype.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 53 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 53 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 53 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "aiopype.selectorLabels" -}}
app.kubernetes.io/name: {{ include "aiopype.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "aiopype.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "aiopype.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | replace "+" "_" | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "aiopype.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}
{{- else }}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end }}
{{- end }}
{{- end }}

{{- define "aiopype.serviceAccount" -}}
{{- $made := ternary (include "aiopype.fullname" .) "default" .Values.serviceAccount.create }}
{{- default $made .Values.serviceAccount.name }}
{{- end }}

{{/* The flow's consumer group. */}}
{{- define "aiopype.group" -}}
{{- with .Values.flow }}
{{- if .namespace }}{{ .namespace }}.{{ end }}{{ .name }}
{{- end }}
{{- end }}

{{/* What the brokers call a topic of the list (.topic) in a namespace (.namespace). */}}
{{- define "aiopype.topic" -}}
{{- if and .namespace (not .topic.foreign) }}{{ .namespace }}.{{ end }}{{ .topic.name }}
{{- end }}

{{- define "aiopype.securityProtocol" -}}
{{- $tls := .Values.kafka.tls.enabled }}
{{- if .Values.kafka.sasl.mechanism }}{{ ternary "SASL_SSL" "SASL_PLAINTEXT" $tls }}
{{- else }}{{ ternary "SSL" "PLAINTEXT" $tls }}
{{- end }}
{{- end }}

{{/* The most workers that get a partition; fails where the bounds cannot be. */}}
{{- define "aiopype.maxReplicas" -}}
{{- $largest := 0 }}
{{- range .Values.flow.topics }}
{{- $largest = max $largest (int .partitions) }}
{{- end }}
{{- if not $largest }}
{{- fail "autoscaling goes by the lag of flow.topics, and there are none; `aiopype deploy kubernetes TARGET` writes them" }}
{{- end }}
{{- $most := int .Values.autoscaling.maxReplicas | default $largest }}
{{- if gt $most $largest }}
{{- fail (printf "autoscaling.maxReplicas is %d, and no topic in flow.topics has more than %d partitions; a worker beyond gets none" $most $largest) }}
{{- end }}
{{- if gt (int .Values.autoscaling.minReplicas) $most }}
{{- fail (printf "autoscaling.minReplicas is %d, and the most is %d" (int .Values.autoscaling.minReplicas) $most) }}
{{- end }}
{{- $most }}
{{- end }}
