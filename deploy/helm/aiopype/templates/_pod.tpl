{{/* The pod, the same in a Deployment and in a StatefulSet. */}}

{{- define "aiopype.pod" -}}
{{- $files := .Values.flow.files -}}
metadata:
  labels:
    {{- include "aiopype.selectorLabels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    {{- if $files }}
    checksum/flow: {{ toJson $files | sha256sum }}
    {{- end }}
    # Nothing in these is missed, so they hold back no node that is to be removed.
    cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes: {{ ternary "tmp" "data,tmp" .Values.dataDir.claim.enabled | quote }}
    kubectl.kubernetes.io/default-container: worker
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "aiopype.serviceAccount" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ int .Values.terminationGracePeriodSeconds }}
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    {{- range $key, $value := .Values.securityContext }}
    {{- if not (kindIs "invalid" $value) }}
    {{ $key }}: {{ int64 $value }}
    {{- end }}
    {{- end }}
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: worker
      image: {{ include "aiopype.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command:
        {{- toYaml .Values.flow.command | nindent 8 }}
      # Kubernetes fills in the variables; an option comes before what the code says.
      args:
        - run
        - $(AIOPYPE_FLOW)
        - --broker=$(AIOPYPE_BROKER)
        - --web-port={{ int .Values.web.port }}
        - --log-level={{ .Values.logs.level }}
        - --plain
      {{- if $files }}
      workingDir: /flow
      {{- end }}
      env:
        {{- include "aiopype.env" . | nindent 8 }}
      ports:
        - name: web
          containerPort: {{ int .Values.web.port }}
          protocol: TCP
      {{- with .Values.probes }}
      startupProbe:
        {{- include "aiopype.probe" (dict "path" "/health/live" "times" .startup) | nindent 8 }}
      livenessProbe:
        {{- include "aiopype.probe" (dict "path" "/health/live" "times" .liveness) | nindent 8 }}
      readinessProbe:
        {{- include "aiopype.probe" (dict "path" "/health/ready" "times" .readiness) | nindent 8 }}
      {{- end }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      volumeMounts:
        {{- include "aiopype.mounts" . | nindent 8 }}
  volumes:
    {{- include "aiopype.volumes" . | nindent 4 }}
  {{- if .Values.topologySpread.enabled }}
  topologySpreadConstraints:
    {{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ $key }}
      whenUnsatisfiable: {{ $.Values.topologySpread.whenUnsatisfiable }}
      labelSelector:
        matchLabels:
          {{- include "aiopype.selectorLabels" $ | nindent 10 }}
    {{- end }}
  {{- end }}
  {{- range $key := list "nodeSelector" "tolerations" "affinity" }}
  {{- with index $.Values $key }}
  {{ $key }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
{{- end }}

{{- define "aiopype.probe" -}}
httpGet:
  path: {{ .path }}
  port: web
{{ toYaml .times }}
{{- end }}
