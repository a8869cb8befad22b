package outbound

import (
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
)

// leastRSA is how many bits a modulus of a server's must have. A browser refuses less by itself, and
// would have no chance to where it is shown a certificate of the gateway's in the server's place.
const leastRSA = 2048

// strong is the error of a server of whose chains each has a key that can be broken. A root is as
// good as whoever trusts it says. It is what [tls.Config.VerifyConnection] takes.
func strong(s tls.ConnectionState) (err error) {
	for _, chain := range s.VerifiedChains {
		if err = weak(chain[:max(1, len(chain)-1)]); err == nil {
			return nil
		}
	}
	if err != nil {
		err = &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: err}
	}
	return err
}

// weak is the error of certificates with such a key.
func weak(chain []*x509.Certificate) error {
	for _, c := range chain {
		if key, ok := c.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < leastRSA {
			return fmt.Errorf("the key of %s is RSA of %d bits, and %d are wanted", c.Subject, key.N.BitLen(), leastRSA)
		}
	}
	return nil
}
