package config

import (
	"errors"

	"github.com/sluiceproxy/sluice/internal/settings"
	"github.com/sluiceproxy/sluice/proxy/auth"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// users reads the usersFile, if one is named.
func users(l *settings.Loader, s settings.Setting) *auth.Users {
	vs := l.Values(s)
	if len(vs) == 0 {
		return nil
	}
	path, text, ok := l.ReadFile(vs[0])
	if !ok {
		return nil
	}
	all, err := auth.ParseUsers(path, string(text))
	if problems := (auth.Problems)(nil); errors.As(err, &problems) {
		for _, p := range problems {
			l.Report(settings.Problem(p))
		}
	}
	return all
}

// authenticates checks that what clients are asked for is of use.
func (p *Proxy) authenticates(l *settings.Loader, all []settings.Setting) {
	file := settings.Pick(all, "users-file")
	switch named := len(l.Values(file)) > 0; {
	case named && p.Authenticate == policy.Off:
		l.Warn(l.At(file).Problem("nobody is asked for a password: set authenticate to optional or required"))
	case !named && p.Authenticate != policy.Off && p.Directory == "" && (p.Keys == nil || p.Keys.ClientCAs == nil):
		l.Report(l.At(settings.Pick(all, "authenticate")).Problem("nobody has a password: name a usersFile (--users-file), a directory for tokens, or a CA of certificates (--client-ca)"))
	}
}
