package main

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/internal/settings"
	"github.com/sluiceproxy/sluice/proxy/auth"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// asks is what a setting means to a comparison of configurations.
type asks uint8

const (
	compared asks = iota + 1 // by what it becomes: rules, tenants, users
	opens                    // listed, and nobody has proved that it opens nothing
	listed                   // listed: it lets nobody do more than the rules say
	aside                    // no request is judged by it
)

// bearing says that of each setting of "sluice proxy", by its flag, or its key where it has none.
// A setting that is not here is listed as one that opens.
var bearing = map[string]asks{
	"rules": compared, "learn": compared, "tenants": compared, "inspect": compared, "parents": compared, "authenticate": compared,
	"users-file": compared, "client-ca": compared, "tunnel-check": compared, "guard": compared, "source": compared, "max-conns-per-client": compared,
	"max-handshakes-per-client": compared,

	"listen": opens, "listen-tls": opens, "listen-socks": opens, "proxy-protocol-from": opens,
	"directory": opens, "directory-wait": opens, "directory-max-age": opens, "on-revoke": opens,

	"expired": listed, "resolver": listed, "upstream-ca": listed, "holder": listed, "max-conns": listed,

	"config": aside, "admin": aside, "admin-host": aside, "pprof": aside, "tls-cert": aside, "tls-key": aside,
	"shadow-rules": aside, "shadowRules": aside, "hide-rules": aside, "require-end": aside, "contact": aside, "forwarded-for": aside,
	"access-log": aside, "access-log-format": aside, "log-level": aside, "log-query": aside,
	"max-head": aside, "max-fields": aside, "max-answer-head": aside, "max-answer-fields": aside, "min-rate": aside,
	"head-timeout": aside, "connect-timeout": aside, "dns-timeout": aside, "idle-timeout": aside, "keepalive-timeout": aside,
	"half-close-timeout": aside, "shutdown-delay": aside, "drain-timeout": aside,
}

// settings lists what two configurations say otherwise, besides rules and tenants: above all who a client is.
// With live it is those only that a reload puts in force.
func (d *otherDiff) settings(before, now *config.Proxy, live bool) {
	was, is := before.Values(), now.Values()
	for _, s := range config.ProxySettings() {
		name := s.Name()
		how := bearing[name]
		if how == compared || how == aside || live && s.Change != settings.Reload || reflect.DeepEqual(was[name], is[name]) {
			continue
		}
		text := fmt.Sprintf("%s: %s instead of %s", s.Key, valueText(is[name]), valueText(was[name]))
		if _, secret := is[name].([]byte); secret {
			text = s.Key + ": other certificates than before"
		}
		if how == listed {
			d.note("%s", text)
		} else {
			d.add("%s", text)
		}
	}
	switch a, b := before.Keys, now.Keys; {
	case (a == nil || a.ClientCAs == nil) && (b == nil || b.ClientCAs == nil):
	case a == nil || a.ClientCAs == nil:
		d.add("clientCA: certificates of clients are believed, and were not asked for")
	case b == nil || b.ClientCAs == nil:
		d.add("clientCA: certificates of clients are not asked for any more")
	case !a.ClientCAs.Equal(b.ClientCAs):
		d.add("clientCA: certificates of clients are believed of other CAs than before")
	}
}

// valueText is a value as people would write it. Those that are true or false are written keep and close.
func valueText(v any) string {
	switch v := v.(type) {
	case nil:
		return "none"
	case bool: // of expired and onRevoke
		return map[bool]string{true: "keep", false: "close"}[v]
	}
	text := strings.Trim(fmt.Sprint(v), "[]")
	if rv := reflect.ValueOf(v); rv.Kind() != reflect.Slice {
		text = fmt.Sprint(v)
	} else if rv.Len() == 0 {
		text = ""
	}
	if text == "" {
		return "none"
	}
	return text
}

// users lists who may show a password and could not, who could and may not, and of whom it is another one.
func (d *otherDiff) users(before, now *auth.Users) {
	for _, l := range []struct {
		what string
		who  []string
	}{
		{"new users", without(now.Names(), before.Names())},
		{"users that are gone", without(before.Names(), now.Names())},
		{"users with another password, or the hash of it made anew", now.OtherPasswords(before)},
	} {
		if len(l.who) > 0 {
			d.add("%s: %s", l.what, strings.Join(l.who, ", "))
		}
	}
}

// limitsText says how much a tenant may have at once.
func limitsText(l policy.Limits) string {
	count := func(n any, what string) string {
		if reflect.ValueOf(n).IsZero() {
			return "any number of " + what
		}
		return fmt.Sprint(n, " ", what)
	}
	return strings.Join([]string{count(l.Connections, "connections"), count(l.ConnsPerClient, "connections of one client"),
		count(l.HandshakesPerClient, "handshakes of one client a second"), count(l.RequestsPerSecond, "requests a second"), fmt.Sprintf("a burst of %d", l.Burst)}, ", ")
}
