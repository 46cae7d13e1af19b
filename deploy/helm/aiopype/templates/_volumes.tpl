{{/* The root file system is read only: these are what a worker writes to and reads. */}}

{{- define "aiopype.mounts" -}}
- name: data
  mountPath: {{ .Values.dataDir.path }}
- name: tmp
  mountPath: /tmp
{{- if .Values.flow.files }}
- name: flow
  mountPath: /flow
  readOnly: true
{{- end }}
{{- with .Values.kafka.tls }}
{{- if or .ca .cert }}
- name: tls
  mountPath: /etc/aiopype/tls
  readOnly: true
{{- end }}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "aiopype.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: 256Mi
{{- if not .Values.dataDir.claim.enabled }}
- name: data
  emptyDir:
    sizeLimit: {{ .Values.dataDir.sizeLimit }}
{{- end }}
{{- if .Values.flow.files }}
- name: flow
  configMap:
    name: {{ include "aiopype.fullname" . }}-flow
    items:
      {{- range $path, $text := .Values.flow.files }}
      - key: {{ include "aiopype.fileKey" $path }}
        path: {{ $path }}
      {{- end }}
{{- end }}
{{- with .Values.kafka.tls }}
{{- if or .ca .cert }}
- name: tls
  projected:
    defaultMode: 0440
    sources:
      {{- range $what, $ref := dict "ca" .ca "cert" .cert "key" .key }}
      {{- if $ref }}
      - secret:
          name: {{ $ref.name }}
          items:
            - key: {{ $ref.key }}
              path: {{ $what }}.pem
      {{- end }}
      {{- end }}
{{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Keys of a ConfigMap have no "/". */}}
{{- define "aiopype.fileKey" -}}
{{ . | replace "/" "__" }}
{{- end }}
