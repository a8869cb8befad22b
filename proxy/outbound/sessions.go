package outbound

import "crypto/tls"

// sessions are those of one tenant, credential, parent and address, of a cache that holds the sessions of
// all: who takes one up again has made it.
type sessions struct {
	tls.ClientSessionCache
	of string
}

// sessionsOf are the sessions that c may take up again.
func sessionsOf(c *Conn, cache tls.ClientSessionCache) tls.ClientSessionCache {
	return sessions{cache, c.tenant + "\x00" + c.credential + "\x00" + c.via + "\x00" + c.Dst.String() + "\x00"}
}

func (s sessions) Get(key string) (*tls.ClientSessionState, bool) {
	return s.ClientSessionCache.Get(s.of + key)
}

func (s sessions) Put(key string, state *tls.ClientSessionState) {
	s.ClientSessionCache.Put(s.of+key, state)
}
