{{/* Faces the network, and has no privilege. */}}
{{- define "sluice.gatewayContainer" -}}
{{- $v := .Values -}}
- name: sluice
  {{- include "sluice.image" . | nindent 2 }}
  {{- if eq $v.mode "tcp" }}
  args: ["tcp"]
  {{- else if $v.config }}
  args: ["proxy", "--config", "/etc/sluice/sluice.yaml"]
  {{- else }}
  args: ["proxy", "--rules", "/etc/sluice/rules.txt"]
  {{- end }}
  env:
  {{- if $v.failover.enabled }}
  - name: SLUICE_HOLDER
    value: /run/sluice-kube/serving.sock
  {{- end }}
  {{- if $v.directory.enabled }}
  - name: SLUICE_DIRECTORY
    value: /run/sluice/directory.sock
  {{- end }}
  {{- if $v.socks.enabled }}
  - name: SLUICE_LISTEN_SOCKS
    value: ":1080"
  {{- end }}
  {{- if eq $v.mode "tcp" }}
  {{- if include "sluice.addressed" . }}
  - name: EGRESS_SOURCE
    value: {{ $v.network.source | quote }}
  {{- end }}
  - name: EGRESS_DNS_PROXY_DESTINATION
    value: {{ $v.tcp.destinations | toJson }}
  {{- else if and (include "sluice.addressed" .) (not (include "sluice.pool" .)) }}
  {{- include "sluice.networkVariable" (dict "root" . "name" "EGRESS_SOURCE") | nindent 2 }}
  {{- end }}
  {{- if not $v.failover.enabled }}
  # At its end it is not ready at once, but Services send it clients until all nodes
  # know that: it takes them meanwhile.
  - name: SLUICE_SHUTDOWN_DELAY
    value: {{ $v.shutdownDelay }}
  {{- end }}
  {{- with $v.goMemLimit }}
  # The collector works harder before the limit is reached, which kills.
  - name: GOMEMLIMIT
    value: {{ . | quote }}
  {{- end }}
  {{- with $v.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  ports:
  {{- if eq $v.mode "tcp" }}
  {{- range (include "sluice.ports" . | fromJson).ports }}
  - name: tcp-{{ int .port }}
    containerPort: {{ int .port }}
  {{- end }}
  {{- else }}
  - name: http-proxy
    containerPort: 8080
  {{- if $v.socks.enabled }}
  - name: socks
    containerPort: 1080
  {{- end }}
  {{- end }}
  - name: admin
    containerPort: 9090
  readinessProbe:
    httpGet:
      path: /readyz
      port: admin
    periodSeconds: 5
  livenessProbe:
    httpGet:
      path: /healthz
      port: admin
    periodSeconds: 10
    failureThreshold: 6
  {{- include "sluice.powerless" . | nindent 2 }}
  {{- with $v.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if eq $v.mode "proxy" }}
  volumeMounts:
  {{- if $v.failover.enabled }}
  - name: holder-socket
    mountPath: /run/sluice-kube
    readOnly: true
  {{- end }}
  {{- if $v.directory.enabled }}
  - name: directory-socket
    mountPath: /run/sluice
    readOnly: true # which lets it connect
  {{- end }}
  # The folder, not the file (no subPath): a changed ConfigMap arrives as a
  # symbolic link that points elsewhere, and only the folder shows that.
  - name: rules
    mountPath: /etc/sluice
    readOnly: true
  {{- range $i, $s := $v.secrets }}
  - name: secret-{{ $i }}
    mountPath: {{ $s.mountPath | quote }}
    readOnly: true
  {{- end }}
  {{- end }}
{{- end -}}

{{/* Addresses, routes, ARP; with failover also the fence. Nobody but sluice-kube talks to it. */}}
{{- define "sluice.netsetupContainer" -}}
{{- $v := .Values -}}
- name: netsetup
  {{- include "sluice.image" . | nindent 2 }}
  command: ["/sluice-netsetup"]
  {{- if $v.failover.enabled }}
  {{- if $v.failover.nativeSidecars }}
  restartPolicy: Always
  {{- end }}
  args: ["hold", "--hold-socket=/run/sluice-netsetup/hold.sock"]
  {{- end }}
  env:
  - name: EGRESS_ROUTER_MODE
    value: {{ if eq $v.mode "tcp" }}dns-proxy{{ else }}http-proxy{{ end }}
  {{- if eq $v.mode "tcp" }}
  - name: EGRESS_SOURCE
    value: {{ $v.network.source | quote }}
  - name: EGRESS_GATEWAY
    value: {{ $v.network.gateway | quote }}
  {{- else }}
  {{- include "sluice.networkVariable" (dict "root" . "name" (ternary "EGRESS_POOL" "EGRESS_SOURCE" (eq (include "sluice.pool" .) "yes"))) | nindent 2 }}
  {{- include "sluice.networkVariable" (dict "root" . "name" "EGRESS_GATEWAY") | nindent 2 }}
  {{- end }}
  securityContext:
    {{- include "sluice.privileged" . | nindent 4 }}
    runAsNonRoot: false
    {{- if $v.failover.enabled }}
    runAsGroup: 65534
    {{- end }}
  {{- include "sluice.helperResources" . | nindent 2 }}
  {{- if $v.failover.enabled }}
  volumeMounts:
  - name: netsetup-socket
    mountPath: /run/sluice-netsetup
  {{- end }}
{{- end -}}

{{/* Redirect mode: the kernel passes packets on, and this listens on nothing. */}}
{{- define "sluice.redirectContainer" -}}
{{- $v := .Values -}}
- name: redirect
  {{- include "sluice.image" . | nindent 2 }}
  command: ["/sluice-netsetup"]
  env:
  - name: EGRESS_ROUTER_MODE
    value: legacy
  - name: EGRESS_SOURCE
    value: {{ $v.network.source | quote }}
  - name: EGRESS_GATEWAY
    value: {{ $v.network.gateway | quote }}
  - name: EGRESS_DESTINATION
    value: {{ $v.redirect.destinations | toJson }}
  {{- with $v.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  securityContext:
    {{- include "sluice.privileged" . | nindent 4 }}
  {{- include "sluice.helperResources" . | nindent 2 }}
{{- end -}}

{{/* Whose turn it is: a Lease, and the endpoints of the Service. */}}
{{- define "sluice.holdContainer" -}}
{{- $v := .Values -}}
- name: hold
  {{- include "sluice.image" . | nindent 2 }}
  {{- if $v.failover.nativeSidecars }}
  restartPolicy: Always
  {{- end }}
  command: ["/sluice-kube"]
  args:
  - hold
  - --netsetup=/run/sluice-netsetup/hold.sock
  - --socket=/run/sluice-kube/serving.sock
  - --endpoint=http-proxy=8080
  {{- if $v.socks.enabled }}
  - --endpoint=socks=1080
  {{- end }}
  - --admin=:9092
  env:
  - name: SLUICE_SERVICE
    value: {{ include "sluice.fullname" . }}
  - name: SLUICE_LEASE
    value: {{ include "sluice.fullname" . }}
  - name: POD_NAME
    valueFrom:
      fieldRef:
        fieldPath: metadata.name
  - name: POD_NAMESPACE
    valueFrom:
      fieldRef:
        fieldPath: metadata.namespace
  - name: POD_UID
    valueFrom:
      fieldRef:
        fieldPath: metadata.uid
  - name: POD_IPS
    valueFrom:
      fieldRef:
        fieldPath: status.podIPs
  - name: NODE_NAME
    valueFrom:
      fieldRef:
        fieldPath: spec.nodeName
  - name: GOMEMLIMIT
    value: 100MiB
  ports:
  - name: hold
    containerPort: 9092
  # No readiness probe: who waits is as ready as who has the address.
  livenessProbe:
    httpGet:
      path: /healthz
      port: hold
    periodSeconds: 10
    failureThreshold: 6
  {{- include "sluice.powerless" . | nindent 2 }}
  resources:
    requests:
      cpu: 20m
      memory: 48Mi
    limits:
      memory: 128Mi
  volumeMounts:
  - name: netsetup-socket
    mountPath: /run/sluice-netsetup
    readOnly: true # which lets it connect
  - name: holder-socket
    mountPath: /run/sluice-kube
  - name: holder-token
    mountPath: /var/run/secrets/kubernetes.io/serviceaccount
    readOnly: true
{{- end -}}

{{/* Which pod has which address, and whose a token is. */}}
{{- define "sluice.directoryContainer" -}}
- name: directory
  {{- include "sluice.image" . | nindent 2 }}
  command: ["/sluice-kube"]
  args: ["directory", "--admin=:9091"]
  env:
  - name: GOMEMLIMIT
    value: 400MiB
  ports:
  - name: directory
    containerPort: 9091
  # No readiness probe: when this begins anew, the gateway goes on with what it
  # knows, and must not lose its clients meanwhile.
  livenessProbe:
    httpGet:
      path: /healthz
      port: directory
    periodSeconds: 10
    failureThreshold: 6
  {{- include "sluice.powerless" . | nindent 2 }}
  resources:
    requests:
      cpu: 20m
      memory: 64Mi
    limits:
      memory: 512Mi
  volumeMounts:
  - name: directory-socket
    mountPath: /run/sluice
  - name: directory-token
    mountPath: /var/run/secrets/kubernetes.io/serviceaccount
    readOnly: true
{{- end -}}
