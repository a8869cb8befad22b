package proxy

import (
	"errors"
	"syscall"

	"github.com/sluiceproxy/sluice/proxy/answer"
	"github.com/sluiceproxy/sluice/proxy/socks5"
)

// composeSocks puts an answer of the proxy's own into x.out, in the place of composeOwn: what
// stands for it in SOCKS. The connection ends behind it.
func (x *exchange) composeSocks(own answer.Own) {
	x.keep, x.tailData = false, 0
	x.did.status, x.did.class = own.Status, own.Class
	switch b := append(x.out[:0], x.c.socks.withOwed()...); x.c.socks.stage {
	case socksGreeting:
		x.out = socks5.AppendMethod(b, socks5.NoAcceptable)
	case socksLogin:
		x.out = socks5.AppendLogin(b, false)
	default:
		x.out = socks5.AppendReply(b, socksReply(own.Class, x.failed))
	}
}

// socksReplies say what stands in SOCKS for a class; all others are Failed.
var socksReplies = map[string]socks5.Reply{
	answer.ClassDenied:         socks5.NotAllowed,
	answer.ClassProhibited:     socks5.NotAllowed,
	answer.ClassLoop:           socks5.NotAllowed,
	answer.ClassDNSError:       socks5.HostUnreachable,
	answer.ClassDNSTimeout:     socks5.HostUnreachable,
	answer.ClassRefused:        socks5.Refused,
	answer.ClassUnroutable:     socks5.NetUnreachable,
	answer.ClassConnectTimeout: socks5.TTLExpired,
}

// socksReply is the reply to a request that has failed with err, which is of that class.
func socksReply(class string, err error) socks5.Reply {
	var bad *socks5.Error
	switch {
	case errors.As(err, &bad):
		return bad.Reply
	case class == answer.ClassUnroutable && errors.Is(err, syscall.EHOSTUNREACH):
		return socks5.HostUnreachable
	}
	if r, ok := socksReplies[class]; ok {
		return r
	}
	return socks5.Failed
}
