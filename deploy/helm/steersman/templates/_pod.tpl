{{/* Arguments of `steersman serve`. */}}
{{- define "steersman.args" -}}
- {{ .Values.model | quote }}
- --port=8000
- --shutdown-timeout={{ .Values.drain.seconds }}
{{- with (.Values.queue).maxRequests }}
- --max-num-queued-reqs={{ int64 . }}
{{- end }}
{{- with (.Values.tracing).endpoint }}
- {{ printf "--otlp-traces-endpoint=%s" . | quote }}
{{- end }}
{{- if .Values.controls.enabled }}
- --vectors=/controls/vectors
{{- if .Values.controls.edits }}
- --edits=/controls/edits
{{- end }}
{{- if .Values.controls.live }}
- --live-edits=/controls/live
{{- end }}
{{- end }}
{{- if .Values.profiles }}
- --profiles=/config/profiles.yaml
{{- end }}
{{- if and .Values.followSeconds (or .Values.controls.enabled .Values.profiles) }}
- --follow={{ .Values.followSeconds }}
{{- end }}
{{- if include "steersman.keyFile" . }}
- --keys=/keys/keys.yaml
{{- end }}
{{- if .Values.rewards }}
- --rewards=/config/rewards.yaml
{{- end }}
{{- if .Values.multiNode.enabled }}
- --distributed-executor-backend=ray
{{- end }}
{{- range .Values.args }}
- {{ . | quote }}
{{- end }}
{{- end }}

{{/* A container of Steersman, without its name, command and probes. */}}
{{- define "steersman.container" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
env:
  - {name: HOME, value: /home/steersman}
  - {name: VLLM_NO_USAGE_STATS, value: "1"}
  {{- if .Values.multiNode.enabled }}
  - {name: STEERSMAN_JOIN_SECONDS, value: {{ .Values.multiNode.joinSeconds | quote }}}
  - name: VLLM_HOST_IP
    valueFrom:
      fieldRef: {fieldPath: status.podIP}
  {{- end }}
  {{- $secret := include "steersman.secret" . }}
  {{- if include "steersman.guarded" . }}
  - name: VLLM_API_KEY
    valueFrom:
      secretKeyRef: {name: {{ $secret }}, key: api-key{{ if .Values.keys.file }}, optional: true{{ end }}}
  {{- end }}
  {{- if $secret }}
  - name: STEERSMAN_ADMIN_API_KEY
    valueFrom:
      secretKeyRef: {name: {{ $secret }}, key: admin-api-key, optional: true}
  - name: HF_TOKEN
    valueFrom:
      secretKeyRef: {name: {{ $secret }}, key: hf-token, optional: true}
  {{- end }}
  {{- with .Values.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- $resources := deepCopy .Values.resources }}
{{- if .Values.gpu.count }}
{{- $limits := merge (dict .Values.gpu.resource .Values.gpu.count) ($resources.limits | default dict) }}
{{- $resources = merge (dict "limits" $limits) $resources }}
{{- end }}
resources:
  {{- toYaml $resources | nindent 2 }}
volumeMounts:
  - {name: cache, mountPath: /cache}
  - {name: home, mountPath: /home/steersman}
  - {name: tmp, mountPath: /tmp}
  - {name: shm, mountPath: /dev/shm}
  {{- if .Values.controls.enabled }}
  - {name: controls, mountPath: /controls, readOnly: {{ .Values.controls.readOnly }}}
  {{- end }}
  {{- if .Values.keys.file }}
  - {name: keys, mountPath: /keys, readOnly: true}
  {{- end }}
  {{- if or .Values.profiles .Values.rewards .Values.multiNode.enabled }}
  - {name: config, mountPath: /config, readOnly: true}
  {{- end }}
  {{- with .Values.volumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* What a container that serves has beside `steersman.container`. */}}
{{- define "steersman.serving" -}}
ports:
  - {name: http, containerPort: 8000}
{{- range $name := list "startup" "readiness" "liveness" }}
{{- $probe := get $.Values.probes $name }}
{{ $name }}Probe:
  httpGet: {path: {{ $probe.path }}, port: http}
  {{- toYaml (omit $probe "path") | nindent 2 }}
{{- end }}
lifecycle:
  # SIGTERM comes after this: load balancers have time to hear that the pod goes.
  preStop:
    exec:
      command: [sleep, {{ .Values.drain.announceSeconds | quote }}]
{{- end }}

{{/* Seconds in which a pod ends. */}}
{{- define "steersman.endSeconds" -}}
{{ add .Values.drain.announceSeconds .Values.drain.seconds 30 }}
{{- end }}

{{/* What pods of Steersman have in common: all but their containers. */}}
{{- define "steersman.pod" -}}
serviceAccountName: {{ include "steersman.serviceAccount" . }}
automountServiceAccountToken: false
# A Service's variables such as VLLM_PORT would be read as settings.
enableServiceLinks: false
# The announcement, the drain, and half a minute for the process to end.
terminationGracePeriodSeconds: {{ include "steersman.endSeconds" . }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- range $field := list "imagePullSecrets" "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" }}
{{- with get $.Values $field }}
{{ $field }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- if and .Values.controls.enabled (not .Values.controls.readOnly) }}
initContainers:
  - name: directories
    command: [mkdir, -p, /controls/vectors, /controls/edits, /controls/live]
    image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities:
        drop: [ALL]
    resources:
      requests: {cpu: 10m, memory: 16Mi}
      limits: {memory: 64Mi}
    volumeMounts:
      - {name: controls, mountPath: /controls}
{{- end }}
volumes:
  - name: home
    emptyDir: {}
  - name: tmp
    emptyDir: {}
  - name: shm
    emptyDir: {medium: Memory, sizeLimit: {{ .Values.shm }}}
  - name: cache
    {{- if or .Values.cache.existingClaim .Values.cache.persistent }}
    persistentVolumeClaim:
      claimName: {{ .Values.cache.existingClaim | default (printf "%s-cache" (include "steersman.fullname" .)) }}
    {{- else }}
    emptyDir: {sizeLimit: {{ .Values.cache.size }}}
    {{- end }}
  {{- if .Values.controls.enabled }}
  - name: controls
    persistentVolumeClaim:
      claimName: {{ .Values.controls.existingClaim | default (printf "%s-controls" (include "steersman.fullname" .)) }}
      readOnly: {{ .Values.controls.readOnly }}
  {{- end }}
  {{- with include "steersman.keyFile" . }}
  - name: keys
    secret:
      secretName: {{ . }}
      items: [{key: keys.yaml, path: keys.yaml}]
  {{- end }}
  {{- if or .Values.profiles .Values.rewards .Values.multiNode.enabled }}
  - name: config
    configMap: {name: {{ include "steersman.fullname" . }}}
  {{- end }}
  {{- with .Values.volumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Metadata of a pod: component and context. */}}
{{- define "steersman.podMetadata" -}}
{{- $root := .root -}}
labels:
  {{- include "steersman.selector" $root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
  {{- with $root.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  # Another reward or key is another pod; so is another profile, unless the servers follow it.
  checksum/config: {{ list $root.Values.rewards (and (not $root.Values.followSeconds) $root.Values.profiles) ($root.Files.Get "files/leader.sh") ($root.Files.Get "files/worker.sh") | toJson | sha256sum }}
  checksum/keys: {{ include (print $root.Template.BasePath "/secret.yaml") $root | sha256sum }}
  {{- with $root.Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
