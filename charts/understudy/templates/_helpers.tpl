{{/* Name of every object of the release. */}}
{{- define "understudy.fullname" -}}
{{- if contains "understudy" .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-understudy" .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects the operator's pods; never changes, since a Deployment's selector cannot. */}}
{{- define "understudy.selectorLabels" -}}
app.kubernetes.io/name: understudy
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{/* Labels of every object. Helm adds its own managed-by, so that the rendered manifests do not claim to be Helm's. */}}
{{- define "understudy.labels" -}}
app.kubernetes.io/name: understudy
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{- define "understudy.serviceAccountName" -}}
{{- include "understudy.fullname" . }}-operator
{{- end -}}

{{/* Not empty where the policy is wanted and the API server knows the kind. Asked of the version, since `helm template` has no
server to ask for kinds; a server of 1.30 that has the kind turned off needs admissionPolicy.enabled=false. */}}
{{- define "understudy.admissionPolicy" -}}
{{- if and .Values.admissionPolicy.enabled (semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version) -}}
true
{{- end -}}
{{- end -}}
