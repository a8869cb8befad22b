package answer

// Classes are what can go wrong with a request, in the words of RFC 9209 section 2.3. Answers,
// the log and the metrics have the same.
const (
	ClassDenied     = "http_request_denied"
	ClassProhibited = "destination_ip_prohibited"
	ClassRequest    = "http_request_error" // the client's fault
	ClassLimit      = "connection_limit_reached"
	ClassLoop       = "proxy_loop_detected"

	ClassConfiguration = "proxy_configuration_error" // what the proxy is to put in cannot be read

	ClassUnavailable = "destination_unavailable" // a parent proxy says so

	ClassDNSError        = "dns_error"
	ClassDNSTimeout      = "dns_timeout"
	ClassRefused         = "connection_refused"
	ClassUnroutable      = "destination_ip_unroutable"
	ClassConnectTimeout  = "connection_timeout"
	ClassTLSFailed       = "tls_protocol_error"
	ClassTLSUntrusted    = "tls_certificate_error"
	ClassTerminated      = "connection_terminated"
	ClassProtocol        = "http_protocol_error" // the server's fault
	ClassResponseTimeout = "http_response_timeout"
)

// Of these no client is told any more: the log and the metrics have them.
const (
	ClassInternal   = "proxy_internal_error"    // a fault of this program
	ClassIdle       = "connection_read_timeout" // a tunnel without a byte for long
	ClassClientGone = "client_aborted"          // RFC 9209 has no word for this
	ClassClientSlow = "client_too_slow"         // nor for this
)

// statusOf is the status by which a client learns of a class.
func statusOf(class string) int {
	switch class {
	case ClassDenied, ClassProhibited:
		return 403
	case ClassRequest:
		return 400
	case ClassLimit, ClassUnavailable:
		return 503
	case ClassDNSTimeout, ClassConnectTimeout, ClassResponseTimeout:
		return 504
	}
	return 502
}
