package auth

import (
	"crypto/x509"
	"slices"
	"strings"
)

// An Identity is who was shown. It is never changed once made, and may be shared; nil is nobody.
type Identity struct {
	user           string
	namespace      string
	serviceAccount string
	pod            string
	sans           []string
	text           string
	selectors      []Selector
}

// NewUser is a user of the usersFile.
func NewUser(name string) *Identity {
	return &Identity{user: name, text: name, selectors: []Selector{{ByUser, name}}}
}

// NewServiceAccount is a service account that was shown by a token; pod is "" for a token that is bound to
// none. It is nil when namespace or name is no name of Kubernetes: then nobody was shown.
func NewServiceAccount(namespace, name, pod string) *Identity {
	if !isLabel(namespace) || !isSubdomain(name) {
		return nil
	}
	text := namespace + "/" + name
	return &Identity{namespace: namespace, serviceAccount: name, pod: pod, text: text,
		selectors: []Selector{{ByServiceAccount, text}, {ByServiceAccount, namespace + "/*"}}}
}

// NewCertificate is who holds the first certificate of a verified chain: its SANs that are a
// URI, a DNS name or an email address. Other certificates of the chain, and the subject's
// common name, say nothing of the client. It is nil when there is no such SAN.
func NewCertificate(chain ...*x509.Certificate) *Identity {
	if len(chain) == 0 || chain[0] == nil {
		return nil
	}
	id := &Identity{}
	for _, uri := range chain[0].URIs {
		text := uri.String()
		if strings.Contains(text, "*") { // it would pass for the pattern
			id.sans = append(id.sans, text)
			continue
		}
		id.addSAN(text, Selector{ByCertificate, uriKey + text})
		if parent, ok := starOf(text); ok {
			id.selectors = append(id.selectors, Selector{ByCertificate, uriKey + parent})
		}
	}
	for _, name := range chain[0].DNSNames {
		id.addSAN(name, Selector{ByCertificate, dnsKey + strings.ToLower(name)})
	}
	for _, mail := range chain[0].EmailAddresses {
		id.addSAN(mail, Selector{ByCertificate, mailKey + foldMail(mail)})
	}
	if len(id.sans) == 0 {
		return nil
	}
	id.text = text(chain[0])
	return id
}

// textMost bounds what the log says of a certificate.
const textMost = 256

// text is the first SAN of a certificate. A DNS name and an email address say what they are: a
// user may have the same name, and either may be spelt like a URI.
func text(c *x509.Certificate) (s string) {
	switch {
	case len(c.URIs) > 0:
		s = c.URIs[0].String()
	case len(c.DNSNames) > 0:
		s = dnsKey + c.DNSNames[0]
	default:
		s = mailKey + c.EmailAddresses[0]
	}
	if len(s) > textMost {
		return s[:textMost] + "…"
	}
	return s
}

func (id *Identity) addSAN(san string, s Selector) {
	id.sans = append(id.sans, san)
	id.selectors = append(id.selectors, s)
}

// String is the text for the access log: a user's name, "namespace/serviceaccount", or the
// first SAN: a URI, "dns:NAME" or "email:ADDRESS", cut when it is long; "" for nil. A SAN may hold any characters.
func (id *Identity) String() string {
	if id == nil {
		return ""
	}
	return id.text
}

// User is the user's name, "" for who is none.
func (id *Identity) User() string {
	if id == nil {
		return ""
	}
	return id.user
}

// ServiceAccount is the namespace, the service account and, when the token is bound to one, the
// pod; all are "" for who is no service account.
func (id *Identity) ServiceAccount() (namespace, name, pod string) {
	if id == nil {
		return "", "", ""
	}
	return id.namespace, id.serviceAccount, id.pod
}

// SANs is those of the certificate, URIs first. The caller must not change them.
func (id *Identity) SANs() []string {
	if id == nil {
		return nil
	}
	return id.sans
}

// Selectors is every selector that fits id: an index over many tenants looks each of them up
// in a map. There are two for a service account and at most two for a SAN. The caller must
// not change them.
func (id *Identity) Selectors() []Selector {
	if id == nil {
		return nil
	}
	return id.selectors
}

// Fits reports whether s selects id. Nothing fits nil.
func (id *Identity) Fits(s Selector) bool {
	return s.by != 0 && id != nil && slices.Contains(id.selectors, s)
}
