{{- define "steersman.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "steersman.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "steersman.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "steersman.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Labels that never change; a selector has these and a component. */}}
{{- define "steersman.selector" -}}
app.kubernetes.io/name: {{ include "steersman.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "steersman.labels" -}}
{{ include "steersman.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "steersman.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "steersman.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* Name of the Secret with the keys; empty if there is none. */}}
{{- define "steersman.secret" -}}
{{- $keys := .Values.keys }}
{{- if $keys.existingSecret }}
{{- $keys.existingSecret }}
{{- else if or $keys.apiKey $keys.adminApiKey $keys.huggingFaceToken }}
{{- printf "%s-keys" (include "steersman.fullname" .) }}
{{- end }}
{{- end }}

{{/* Whether the Secret has a file of keys. */}}
{{- define "steersman.keyFile" -}}
{{- if .Values.keys.file }}
{{- required "keys.file needs keys.existingSecret, which has keys.yaml" .Values.keys.existingSecret }}
{{- end }}
{{- end }}

{{/* Whether requests need a key. */}}
{{- define "steersman.guarded" -}}
{{- if or .Values.keys.existingSecret .Values.keys.apiKey }}yes{{ end }}
{{- end }}
