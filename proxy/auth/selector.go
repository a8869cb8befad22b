package auth

import (
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// By is what a selector selects by.
type By uint8

const (
	ByUser           By = iota + 1 // a user's name, as it is
	ByNamespace                    // a namespace, as it is; no token fits it, see [ParseSelector]
	ByServiceAccount               // "namespace/name", or "namespace/*"
	ByCertificate                  // a SAN
)

// A Selector says which identities are a tenant's. It is comparable: equal ones select the
// same. The zero Selector selects nobody.
type Selector struct {
	by   By
	text string // in the form that Identity.Selectors has
}

// By is what s selects by; 0 for the zero Selector.
func (s Selector) By() By { return s.by }

// String is by what s selects, and what: equal selectors have equal texts, and no others.
func (s Selector) String() string {
	return [...]string{"", "user", "namespace", "service account", "certificate"}[s.by] + " " + s.text
}

// Star is the selector with a "*" in the place of the last segment, which fits whoever s fits
// too. false: there is none, or s is that.
func (s Selector) Star() (Selector, bool) {
	switch s.by {
	case ByServiceAccount:
		namespace, name, _ := strings.Cut(s.text, "/")
		return Selector{s.by, namespace + "/*"}, name != "*"
	case ByCertificate:
		if uri, ok := strings.CutPrefix(s.text, uriKey); ok {
			star, ok := starOf(uri)
			return Selector{s.by, uriKey + star}, ok
		}
	}
	return Selector{}, false
}

// SANs of different kinds never meet: a DNS name that reads like a URI is none.
const uriKey, dnsKey, mailKey = "uri:", "dns:", "email:"

// ParseSelector reads a selector as a configuration has it.
//
// The one pattern is a "*" that is the whole last segment: it stands for exactly one segment,
// not for several and not for none. "ci/*" is every service account of the namespace ci;
// "spiffe://cluster.local/ns/shop/sa/*" fits ".../sa/builder" and neither ".../sa/a/b" nor
// ".../sa/". In a certificate's URI a segment that "*" fits is of letters, digits and "-._~",
// and it is behind the authority: the trust domain is always spelt out. DNS names and email
// addresses are compared whole, the domain whatever its case.
//
// ByNamespace is for who resolves a client's address: it never fits an [Identity].
func ParseSelector(by By, text string) (Selector, error) {
	quoted := strconv.Quote(text)
	switch by {
	case ByUser:
		if err := checkUser(text); err != nil {
			return Selector{}, err
		}
		return Selector{by, text}, nil
	case ByNamespace:
		if !isLabel(text) {
			return Selector{}, fmt.Errorf("%s is no name of a namespace", quoted)
		}
		return Selector{by, text}, nil
	case ByServiceAccount:
		namespace, name, _ := strings.Cut(text, "/")
		if !isLabel(namespace) || name != "*" && !isSubdomain(name) {
			return Selector{}, fmt.Errorf("%s is no service account: write \"namespace/name\", or \"namespace/*\" for all of a namespace", quoted)
		}
		return Selector{by, text}, nil
	case ByCertificate:
		return parseSAN(text)
	}
	return Selector{}, fmt.Errorf("no selector: %d", by)
}

func parseSAN(text string) (Selector, error) {
	quoted := strconv.Quote(text)
	if !strings.Contains(text, "://") {
		switch {
		case strings.Contains(text, "*"):
			return Selector{}, fmt.Errorf("%s: a \"*\" is the last segment of a URI; DNS names and email addresses are written whole", quoted)
		case strings.Contains(text, "@"):
			return Selector{ByCertificate, mailKey + foldMail(text)}, nil
		case !isSubdomain(strings.ToLower(text)):
			return Selector{}, fmt.Errorf("%s is no URI (\"spiffe://…\"), DNS name or email address", quoted)
		}
		return Selector{ByCertificate, dnsKey + strings.ToLower(text)}, nil
	}
	exact, star := strings.CutSuffix(text, "/*")
	u, err := url.Parse(exact)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return Selector{}, fmt.Errorf("%s is no URI of a scheme, an authority and a path", quoted)
	case strings.Contains(exact, "*"):
		return Selector{}, fmt.Errorf("%s: a \"*\" is the whole last segment of a URI, behind the authority", quoted)
	case star:
		return Selector{ByCertificate, uriKey + u.String() + "/*"}, nil
	}
	return Selector{ByCertificate, uriKey + u.String()}, nil
}

// starOf returns the pattern with a "*" that uri fits.
func starOf(uri string) (string, bool) {
	i := strings.LastIndexByte(uri, '/')
	scheme := strings.Index(uri, "://")
	if scheme < 0 || i < scheme+len("://") || !every([]byte(uri[i+1:]), unreserved) {
		return "", false
	}
	switch uri[i+1:] {
	case "", ".", "..":
		return "", false
	}
	return uri[:i] + "/*", true
}

// foldMail lowers the domain: the local part is its host's to compare.
func foldMail(mail string) string {
	i := strings.LastIndexByte(mail, '@')
	return mail[:i+1] + strings.ToLower(mail[i+1:])
}

var (
	label     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	subdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
)

func isLabel(s string) bool     { return label.MatchString(s) }
func isSubdomain(s string) bool { return len(s) <= 253 && subdomain.MatchString(s) }
