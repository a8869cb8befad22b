package config

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sluiceproxy/sluice/internal/settings"
)

// login is the value of Proxy-Authorization for a parent, or why there is none for now.
func (r parentsReader) login(parent string, secure bool, basic, token *yaml.Node) (login string, problem error) {
	n := basic
	switch {
	case basic != nil && token != nil:
		r.FileProblem(max(basic.Line, token.Line), `"basic" and "token" are both given; keep one of them`)
		return "", nil
	case token != nil:
		n = token
	case basic == nil:
		return "", nil
	}
	var file *yaml.Node
	before := len(r.Problems)
	r.keys(n, map[string]func(*yaml.Node){"file": func(n *yaml.Node) { file = n }})
	if file == nil {
		if len(r.Problems) == before {
			r.FileProblem(n.Line, `a credential wants a "file" that holds it, so that no secret stands here`)
		}
		return "", nil
	}
	path, text, err := r.TryFile(settings.Value{Text: file.Value, Source: r.Path, Line: file.Line})
	text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	user, _, colon := bytes.Cut(text, []byte(":"))
	switch {
	case err != nil:
	case len(text) == 0:
		err = errors.New(path + " is empty")
	case n == basic && (!colon || len(user) == 0):
		err = errors.New(path + " is not USER:PASSWORD")
	case !isFieldText(string(text)):
		err = errors.New(path + " has a line end or another control byte inside")
	case n == token && !isToken(text):
		err = errors.New(path + " is no bearer token: letters, digits and -._~+/ with = at the end (RFC 6750)")
	}
	if err != nil {
		r.Warn(settings.Problem{Source: r.Path, Line: file.Line, Msg: fmt.Sprintf("%v: %s is not used until it can be read", err, parent)})
		return "", err
	}
	if !secure {
		r.Warn(settings.Problem{Source: r.Path, Line: n.Line, Msg: fmt.Sprintf("the credential for %s goes over the network in plain; have the parent speak TLS (https://)", parent)})
	}
	if n == token {
		return "Bearer " + string(text), nil
	}
	return "Basic " + base64.StdEncoding.EncodeToString(text), nil
}

// isToken reports whether b is a b64token (RFC 6750 section 2.1).
func isToken(b []byte) bool {
	b = bytes.TrimRight(b, "=")
	return len(b) > 0 && bytes.IndexFunc(b, func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("-._~+/", c))
	}) < 0
}
