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

{{/* The addresses of a group, or of network.source, as JSON: each as it is written, and as it is
     called. The names are at full length, those of IPv4 first, which then are in the order of what
     they are; what is wrong with one stands in its place. */}}
{{- define "sluice.addresses" -}}
{{- $all := list -}}
{{- range splitList " " (regexReplaceAll "[,\\s]+" (trim .) " ") -}}
{{- $parts := splitList "/" . -}}
{{- $address := first $parts -}}
{{- $length := rest $parts | join "/" -}}
{{- $wrong := "" -}}
{{- $name := "" -}}
{{- if contains ":" $address -}}
{{- $halves := splitList "::" $address -}}
{{- $left := first $halves | splitList ":" | compact -}}
{{- $right := rest $halves | join "" | splitList ":" | compact -}}
{{- $groups := len (concat $left $right) -}}
{{- if contains "." $address -}}
{{- $wrong = "write it in hexadecimal alone, or the address of IPv4 if it is one" -}}
{{- else if or (gt (len $halves) 2) (gt $groups (ternary 7 8 (eq (len $halves) 2))) (and (eq (len $halves) 1) (ne $groups 8)) -}}
{{- $wrong = "it is no address" -}}
{{- end -}}
{{- range $halves -}}
{{- if not (regexMatch "^([0-9A-Fa-f]{1,4}(:[0-9A-Fa-f]{1,4})*)?$" .) -}}{{- $wrong = $wrong | default "it is no address" -}}{{- end -}}
{{- end -}}
{{- $full := list -}}
{{- range $left -}}{{- $full = append $full (printf "0000%s" . | lower | trunc -4) -}}{{- end -}}
{{- range until (sub 8 $groups | int | max 0 | int) -}}{{- $full = append $full "0000" -}}{{- end -}}
{{- range $right -}}{{- $full = append $full (printf "0000%s" . | lower | trunc -4) -}}{{- end -}}
{{- $name = printf "6 %s" (join "-" $full) -}}
{{- if hasPrefix "6 0000-0000-0000-0000-0000-ffff-" $name -}}{{- $wrong = $wrong | default "write it as an address of IPv4, which it is" -}}{{- end -}}
{{- if and $length (not (regexMatch "^([1-9]?[0-9]|1[01][0-9]|12[0-8])$" $length)) -}}{{- $wrong = $wrong | default "the length is 0 to 128" -}}{{- end -}}
{{- else -}}
{{- $full := list -}}
{{- range splitList "." $address -}}
{{- $full = append $full (printf "000%s" . | trunc -3) -}}
{{- if not (regexMatch "^(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])$" .) -}}{{- $wrong = "it is no address: four numbers of 0 to 255, without zeros in front" -}}{{- end -}}
{{- end -}}
{{- if ne (len $full) 4 -}}{{- $wrong = "it is no address: four numbers of 0 to 255, without zeros in front" -}}{{- end -}}
{{- $name = printf "4 %s %s" (join "" $full) (replace "." "-" $address) -}}
{{- if and $length (not (regexMatch "^([12]?[0-9]|3[0-2])$" $length)) -}}{{- $wrong = $wrong | default "the length is 0 to 32" -}}{{- end -}}
{{- end -}}
{{- if and (gt (len $parts) 1) (not $length) -}}{{- $wrong = $wrong | default "the length is missing behind its slash" -}}{{- end -}}
{{- $all = append $all (dict "text" . "name" $name "wrong" $wrong) -}}
{{- end -}}
{{- dict "all" $all | toJson -}}
{{- end -}}

{{/* What a group of addresses is called: by the lowest of them. */}}
{{- define "sluice.groupName" -}}
{{- $all := list -}}
{{- range (include "sluice.addresses" . | fromJson).all -}}{{- $all = append $all .name -}}{{- end -}}
{{- $all | sortAlpha | first | splitList " " | last -}}
{{- end -}}

{{/* A duration as shutdownDelay may be, in seconds; nothing for another. */}}
{{- define "sluice.seconds" -}}
{{- if regexMatch "^[0-9]+(\\.[0-9]+)?(ms|s|m)$" . -}}
{{- mulf (regexFind "^[0-9.]+" . | float64) (get (dict "ms" 0.001 "s" 1.0 "m" 60.0) (regexFind "[ms]+$" .)) -}}
{{- end -}}
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
{{- $source := ternary "failover.pool" "network.source" (eq (include "sluice.pool" .) "yes") -}}
{{- $addresses := dict -}}
{{- range ternary $v.failover.pool (list $v.network.source) (eq (include "sluice.pool" .) "yes") -}}
{{- range ternary (include "sluice.addresses" . | fromJson).all list (ne . "") -}}
{{- if .wrong -}}
{{- $wrong = append $wrong (printf "%s: %s: %s" $source .text .wrong) -}}
{{- else if hasKey $addresses .name -}}
{{- $wrong = append $wrong (printf "%s: %s is there twice; leave one out" $source .text) -}}
{{- end -}}
{{- $_ := set $addresses .name true -}}
{{- end -}}
{{- end -}}
{{- $replicas := include "sluice.replicas" . | int -}}
{{- if and $v.failover.enabled (eq $replicas 1) (le (len $v.failover.pool) 1) -}}
{{- $wrong = append $wrong "replicas: with failover.enabled one has nobody that takes over; leave it out, or give 2 or more" -}}
{{- end -}}
{{- if and $v.failover.enabled (gt $replicas 0) (lt $replicas (len $v.failover.pool)) -}}
{{- $wrong = append $wrong (printf "replicas: failover.pool has %d groups, and %d replicas hold one each; leave it out, or give %d or more" (len $v.failover.pool) $replicas (add1 (len $v.failover.pool))) -}}
{{- end -}}
{{- $grace := int64 $v.terminationGracePeriodSeconds -}}
{{- if and $v.failover.enabled (le $grace 26) -}}
{{- $wrong = append $wrong (printf "terminationGracePeriodSeconds: %d is too short: a replica with failover.enabled waits 15 s for a successor, drains for 1 s and needs 10 s besides; give more than 26" $grace) -}}
{{- else if and (not $v.failover.enabled) (ne $v.mode "redirect") -}}
{{- $drain := ternary "0s" "30s" (contains "drainTimeout" $v.config) -}}
{{- range $v.env -}}
{{- if eq .name "SLUICE_DRAIN_TIMEOUT" -}}{{- $drain = .value | default "0s" -}}{{- end -}}
{{- end -}}
{{- $least := addf (include "sluice.seconds" $v.shutdownDelay | float64) (include "sluice.seconds" $drain | default "0" | float64) -}}
{{- if le (float64 $grace) $least -}}
{{- $wrong = append $wrong (printf "terminationGracePeriodSeconds: %d is not more than shutdownDelay, %s, and --drain-timeout, %s, together: connections would be cut; give more than %v" $grace $v.shutdownDelay $drain $least) -}}
{{- end -}}
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
