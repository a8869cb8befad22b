{{- define "sluice.pod" -}}
{{- $v := .Values -}}
{{- $name := include "sluice.fullname" . -}}
{{- $sidecars := and $v.failover.enabled (not $v.failover.nativeSidecars) -}}
serviceAccountName: {{ $name | quote }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- if ne $v.mode "redirect" }}
terminationGracePeriodSeconds: {{ int64 $v.terminationGracePeriodSeconds }}
{{- end }}
{{- with $v.imagePullSecrets }}
imagePullSecrets:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- with $v.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if $v.tolerations }}
tolerations:
{{- toYaml $v.tolerations | nindent 0 }}
{{- else if $v.failover.enabled }}
# The other replica does not wait for this: it is how soon there is a spare again.
tolerations:
- key: node.kubernetes.io/unreachable
  operator: Exists
  effect: NoExecute
  tolerationSeconds: 30
- key: node.kubernetes.io/not-ready
  operator: Exists
  effect: NoExecute
  tolerationSeconds: 30
{{- end }}
{{- if $v.affinity }}
affinity:
  {{- toYaml $v.affinity | nindent 2 }}
{{- else if $v.failover.enabled }}
affinity:
  podAntiAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
    - topologyKey: kubernetes.io/hostname
      labelSelector:
        matchLabels:
          {{- include "sluice.selector" . | nindent 10 }}
{{- else if gt (include "sluice.replicas" . | int) 1 }}
topologySpreadConstraints:
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "sluice.selector" . | nindent 6 }}
{{- end }}
securityContext:
  {{- if ne $v.mode "redirect" }}
  runAsNonRoot: true
  {{- if not (kindIs "invalid" $v.fsGroup) }}
  fsGroup: {{ int64 $v.fsGroup }}
  {{- end }}
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
  {{- if eq $v.mode "tcp" }}
  # Ports below 1024 for a program without privilege; a safe sysctl.
  sysctls:
  - name: net.ipv4.ip_unprivileged_port_start
    value: "0"
  {{- else if and (eq $v.mode "redirect") $v.redirect.forward }}
  sysctls:
  - name: net.ipv4.ip_forward
    value: "1"
  {{- end }}
{{- if and (include "sluice.netsetup" .) (ne $v.mode "redirect") (not $sidecars) }}
initContainers:
{{ include "sluice.netsetupContainer" . }}
{{- if $v.failover.enabled }}
{{ include "sluice.holdContainer" . }}
{{- end }}
{{- end }}
containers:
{{- if eq $v.mode "redirect" }}
{{ include "sluice.redirectContainer" . }}
{{- else }}
{{ include "sluice.gatewayContainer" . }}
{{- end }}
{{- if $sidecars }}
{{ include "sluice.netsetupContainer" . }}
{{ include "sluice.holdContainer" . }}
{{- end }}
{{- if $v.directory.enabled }}
{{ include "sluice.directoryContainer" . }}
{{- end }}
{{- if eq $v.mode "proxy" }}
volumes:
{{- if $v.failover.enabled }}
- name: netsetup-socket
  emptyDir:
    sizeLimit: 1Mi
- name: holder-socket
  emptyDir:
    sizeLimit: 1Mi
{{ include "sluice.token" "holder-token" }}
{{- end }}
{{- if $v.directory.enabled }}
- name: directory-socket
  emptyDir:
    sizeLimit: 1Mi
{{ include "sluice.token" "directory-token" }}
{{- end }}
- name: rules
  configMap:
    name: {{ $name }}-rules
{{- range $i, $s := $v.secrets }}
- name: secret-{{ $i }}
  secret:
    secretName: {{ $s.name | quote }}
    {{- if not (kindIs "invalid" $v.fsGroup) }}
    defaultMode: 0440
    {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* What automountServiceAccountToken would mount into all containers. */}}
{{- define "sluice.token" -}}
- name: {{ . }}
  projected:
    sources:
    - serviceAccountToken:
        path: token
        expirationSeconds: 3607
    - configMap:
        name: kube-root-ca.crt
        items:
        - key: ca.crt
          path: ca.crt
    - downwardAPI:
        items:
        - path: namespace
          fieldRef:
            fieldPath: metadata.namespace
{{- end -}}

{{/* Of the pods: what the cluster's network is asked for, and what tools look for. */}}
{{- define "sluice.annotations" -}}
{{- $v := .Values -}}
cluster-autoscaler.kubernetes.io/safe-to-evict: "false"
{{- if or $v.failover.enabled $v.directory.enabled }}
kubectl.kubernetes.io/default-container: sluice
{{- end }}
{{- if eq $v.network.type "openshift-sdn" }}
openshift.io/required-scc: sluice-netsetup
pod.network.openshift.io/assign-macvlan: {{ $v.network.annotation | quote }}
{{- else if eq $v.network.type "multus" }}
k8s.v1.cni.cncf.io/networks: '[{"name": "{{ include "sluice.fullname" . }}-egress", "interface": "macvlan0"}]'
{{- else if eq $v.network.type "egress-router-cni" }}
k8s.v1.cni.cncf.io/networks: {{ include "sluice.fullname" . }}-egress
{{- end }}
{{- end -}}
