package image

import (
	"bytes"
	"encoding/pem"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// RootsPath is where Go programs look for the certificates first.
const RootsPath = "/etc/ssl/certs/ca-certificates.crt"

// Roots are the root certificates of Mozilla, as PEM. A request for https://… in
// absolute form is the gateway's own TLS connection, and without them none would
// be trusted. They are of the version in go.mod, not of the machine that builds:
// else the image would not be reproducible.
//
// Roots that Mozilla trusts under a condition only (issued before a date) are left
// out, as PEM cannot say the condition; --upstream-ca adds what is missed.
func Roots() ([]byte, error) {
	var text bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue
		}
		if err := pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}); err != nil {
			return nil, err
		}
	}
	return text.Bytes(), nil
}
