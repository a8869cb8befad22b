{{- define "sluice.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimAll "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimAll "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimAll "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects the pods of this release, and no other's. */}}
{{- define "sluice.selector" -}}
app.kubernetes.io/name: sluice
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: gateway
{{- end -}}

{{- define "sluice.labels" -}}
app.kubernetes.io/name: sluice
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{/* A source address of the gateway's own: "yes", or nothing. */}}
{{- define "sluice.addressed" -}}
{{- if ne .Values.network.type "none" }}yes{{ end -}}
{{- end -}}

{{/* Whether sluice-netsetup brings the address: "yes", or nothing. */}}
{{- define "sluice.netsetup" -}}
{{- if has .Values.network.type (list "openshift-sdn" "multus") }}yes{{ end -}}
{{- end -}}

{{- define "sluice.pool" -}}
{{- if and .Values.failover.enabled .Values.failover.pool }}yes{{ end -}}
{{- end -}}

{{- define "sluice.replicas" -}}
{{- if not (kindIs "invalid" .Values.replicas) -}}{{ int .Values.replicas }}
{{- else if include "sluice.pool" . -}}{{ add1 (len .Values.failover.pool) }}
{{- else if .Values.failover.enabled -}}2
{{- else -}}1
{{- end -}}
{{- end -}}

{{/* What a group of addresses is called, by the lowest of them: each is written at full length,
     those of IPv4 first, which then are in the order of what they are. */}}
{{- define "sluice.groupName" -}}
{{- $all := list -}}
{{- range splitList " " (regexReplaceAll "[,\\s]+" (trim .) " ") -}}
{{- $address := first (splitList "/" .) -}}
{{- if contains ":" $address -}}
{{- $halves := splitList "::" $address -}}
{{- $left := first $halves | splitList ":" | compact -}}
{{- $right := rest $halves | join "" | splitList ":" | compact -}}
{{- $words := $left -}}
{{- range until (sub 8 (len (concat $left $right)) | int) -}}{{- $words = append $words "0" -}}{{- end -}}
{{- range $right -}}{{- $words = append $words . -}}{{- end -}}
{{- $full := list -}}
{{- range $words -}}{{- $full = append $full (printf "0000%s" . | lower | trunc -4) -}}{{- end -}}
{{- $all = append $all (printf "6 %s" (join "-" $full)) -}}
{{- else -}}
{{- $full := list -}}
{{- range splitList "." $address -}}{{- $full = append $full (printf "000%s" . | trunc -3) -}}{{- end -}}
{{- $all = append $all (printf "4 %s %s" (join "" $full) (replace "." "-" $address)) -}}
{{- end -}}
{{- end -}}
{{- $all | sortAlpha | first | splitList " " | last -}}
{{- end -}}

{{/* EGRESS_SOURCE and EGRESS_GATEWAY, or the pool: what sluice-netsetup is told. */}}
{{- define "sluice.network" -}}
{{- if include "sluice.pool" . }}
EGRESS_POOL: {{ join " " .Values.failover.pool | quote }}
{{- else }}
EGRESS_SOURCE: {{ .Values.network.source | quote }}
{{- end }}
{{- if include "sluice.netsetup" . }}
EGRESS_GATEWAY: {{ .Values.network.gateway | quote }}
{{- end }}
{{- end -}}

{{/* Its name has a hash of the content, so that a change replaces the pods. */}}
{{- define "sluice.networkName" -}}
{{ include "sluice.fullname" . }}-network-{{ include "sluice.network" . | sha256sum | trunc 10 }}
{{- end -}}

{{/* A variable out of it. */}}
{{- define "sluice.networkVariable" -}}
- name: {{ .name }}
  valueFrom:
    configMapKeyRef:
      name: {{ include "sluice.networkName" .root }}
      key: {{ .name }}
{{- end -}}

{{- define "sluice.image" -}}
image: {{ .Values.image | quote }}
{{- with .Values.imagePullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- end -}}

{{/* The level "restricted", but for what the image says by itself. */}}
{{- define "sluice.powerless" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: ["ALL"]
{{- end -}}

{{/* What sets the network up: root with two capabilities. It faces nobody. */}}
{{- define "sluice.privileged" -}}
runAsUser: 0
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: ["ALL"]
  add: ["NET_ADMIN", "NET_RAW"]
{{- end -}}

{{- define "sluice.helperResources" -}}
resources:
  requests:
    cpu: 10m
    memory: 16Mi
  limits:
    memory: 64Mi
{{- end -}}

{{/* The ports of the Service, as JSON: number and protocol. Those of the destinations. */}}
{{- define "sluice.ports" -}}
{{- $ports := list -}}
{{- if eq .Values.mode "tcp" -}}
{{- range regexFindAll "(?m)^[ \\t]*[0-9]+[ \\t]" .Values.tcp.destinations -1 -}}
{{- $ports = append $ports (dict "port" (trim . | int) "protocol" "TCP") -}}
{{- end -}}
{{- else if eq .Values.mode "redirect" -}}
{{- range regexFindAll "(?m)^[ \\t]*[0-9]+[ \\t]+[A-Za-z]+" .Values.redirect.destinations -1 -}}
{{- $fields := splitList " " (regexReplaceAll "[ \\t]+" (trim .) " ") -}}
{{- $ports = append $ports (dict "port" (index $fields 0 | int) "protocol" (index $fields 1 | upper)) -}}
{{- end -}}
{{- end -}}
{{- dict "ports" $ports | toJson -}}
{{- end -}}

{{/* All that is wrong with the values together, beyond what the schema can say. */}}
{{- define "sluice.check" -}}
{{- $v := .Values -}}
{{- $wrong := list -}}
{{- if not $v.image -}}
{{- $wrong = append $wrong "image: name the image, --set image=REGISTRY/sluice:VERSION" -}}
{{- end -}}
{{- if and (ne $v.network.type "none") (not $v.network.source) (not (include "sluice.pool" .)) -}}
{{- $wrong = append $wrong (printf "network.source: give the gateway its address, --set network.source=192.0.2.10/24; network.type %s needs one" $v.network.type) -}}
{{- end -}}
{{- if and (eq $v.network.type "none") $v.network.source -}}
{{- $wrong = append $wrong "network.type: say where the address of network.source comes from, openshift-sdn, multus or egress-router-cni" -}}
{{- end -}}
{{- if and (ne $v.network.type "none") (not $v.network.gateway) -}}
{{- $wrong = append $wrong "network.gateway: give the gateway of network.source, --set network.gateway=192.0.2.1" -}}
{{- end -}}
{{- if and $v.failover.enabled (not (include "sluice.netsetup" .)) -}}
{{- $wrong = append $wrong (printf "failover.enabled: with network.type %s there is no address that could move; take multus or openshift-sdn" $v.network.type) -}}
{{- end -}}
{{- if and $v.failover.enabled (ne $v.mode "proxy") -}}
{{- $wrong = append $wrong (printf "failover.enabled: mode %s has one replica; take mode proxy" $v.mode) -}}
{{- end -}}
{{- if and $v.failover.pool (not $v.failover.enabled) -}}
{{- $wrong = append $wrong "failover.pool: set failover.enabled, or nobody shares the pool" -}}
{{- end -}}
{{- if and $v.failover.pool $v.network.source -}}
{{- $wrong = append $wrong "network.source: leave it out, the addresses are those of failover.pool" -}}
{{- end -}}
{{- if and (ne $v.network.type "none") (not $v.failover.enabled) (gt (include "sluice.replicas" . | int) 1) -}}
{{- $wrong = append $wrong "replicas: one pod at a time can have the address of network.source; set failover.enabled, or leave replicas out" -}}
{{- end -}}
{{- $name := include "sluice.fullname" . -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) -}}
{{- $wrong = append $wrong (printf "fullnameOverride: the release's name makes %s, which no Service can have; give a name of small letters, digits and hyphens that begins with a letter" $name) -}}
{{- end -}}
{{- $seen := dict -}}
{{- range (include "sluice.ports" . | fromJson).ports -}}
{{- $at := printf "%s port %d" .protocol (int .port) -}}
{{- if hasKey $seen $at -}}
{{- $wrong = append $wrong (printf "%s.destinations: %s is there twice" $v.mode $at) -}}
{{- end -}}
{{- $_ := set $seen $at true -}}
{{- if or (lt (int .port) 1) (gt (int .port) 65535) -}}
{{- $wrong = append $wrong (printf "%s.destinations: %s: ports are 1 to 65535" $v.mode $at) -}}
{{- end -}}
{{- if not (has .protocol (list "TCP" "UDP" "SCTP")) -}}
{{- $wrong = append $wrong (printf "%s.destinations: %s: protocols are tcp, udp and sctp" $v.mode $at) -}}
{{- end -}}
{{- if and (eq $v.mode "tcp") (eq (int .port) 9090) -}}
{{- $wrong = append $wrong "tcp.destinations: port 9090 is the admin port of the gateway; take another" -}}
{{- end -}}
{{- end -}}
{{- if and (eq $v.mode "tcp") $v.tcp.destinations (not $seen) -}}
{{- $wrong = append $wrong "tcp.destinations: no line begins with a port" -}}
{{- end -}}
{{- $ours := list "EGRESS_SOURCE" "EGRESS_DNS_PROXY_DESTINATION" "SLUICE_HOLDER" "SLUICE_DIRECTORY" "SLUICE_SHUTDOWN_DELAY" "GOMEMLIMIT" -}}
{{- range $v.env -}}
{{- if has .name $ours -}}
{{- $wrong = append $wrong (printf "env: %s stands there twice, or another value says it; leave one out" .name) -}}
{{- end -}}
{{- $ours = append $ours .name -}}
{{- end -}}
{{- if and (eq $v.mode "tcp") (not $v.tcp.destinations) -}}
{{- $wrong = append $wrong "tcp.destinations: give lines of PORT HOST [REMOTEPORT]; mode tcp needs them" -}}
{{- end -}}
{{- if and (eq $v.mode "redirect") (not $v.redirect.destinations) -}}
{{- $wrong = append $wrong "redirect.destinations: give lines of PORT PROTOCOL ADDRESS [PORT], or an ADDRESS; mode redirect needs them" -}}
{{- end -}}
{{- if and (eq $v.mode "redirect") (not (include "sluice.netsetup" .)) -}}
{{- $wrong = append $wrong (printf "network.type: mode redirect needs openshift-sdn or multus, not %s" $v.network.type) -}}
{{- end -}}
{{- if and (ne $v.mode "proxy") (or $v.rules $v.config $v.directory.enabled $v.socks.enabled) -}}
{{- $wrong = append $wrong (printf "rules, config, directory.enabled, socks.enabled: mode %s has none of them; take mode proxy" $v.mode) -}}
{{- end -}}
{{- if and $v.rules $v.config -}}
{{- $wrong = append $wrong "rules: leave it out, the rules stand in config" -}}
{{- end -}}
{{- if and $v.directory.enabled (not $v.config) -}}
{{- $wrong = append $wrong "config: say which tenants there are; directory.enabled is for them" -}}
{{- end -}}
{{- if $wrong -}}
{{- fail (printf "\n  %s" (join "\n  " $wrong)) -}}
{{- end -}}
{{- end -}}
