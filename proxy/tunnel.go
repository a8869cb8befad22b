package proxy

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/answer"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/sock"
	"github.com/sluiceproxy/sluice/proxy/socks5"
	"github.com/sluiceproxy/sluice/proxy/tunnel"
)

// makeTunnel tells the client, and makes a tunnel of the connection.
func (c *conn) makeTunnel() {
	x := c.x
	fd, _ := c.tcp.Bare()
	n, _ := sock.TryWrite(fd, x.tail)
	if n != len(x.tail) {
		x.tail = x.tail[max(n, 0):]
		c.toGoroutine(x)
		return
	}
	x.did.tunnel, x.did.firstByte = true, time.Since(x.did.start)
	x.keepHeads()
	c.releaseBuffer()
	c.dropBound()
	c.onLoop, c.over, c.x = false, true, nil
	up := x.up
	x.check = x.newCheck()
	free := x.handOver(nil)
	x.end()
	if free {
		up.Release()
		c.reuse()
	}
}

// established is not to be written to.
var established = []byte(answer.Established)

// established is what tells the client that its tunnel is there.
func (x *exchange) established() []byte {
	if x.c.socks.speaks {
		return socks5.AppendReply(x.c.socks.withOwed(), socks5.Succeeded)
	}
	return established
}

// newCheck is what the first bytes of the tunnel are judged by that the request becomes; nil:
// they are not looked at. What an Upgrade makes is known to be what its head says.
func (x *exchange) newCheck() *outbound.Opening {
	if x.did.mode == metrics.Forward {
		return nil
	}
	return outbound.NewOpening(x.gen, &x.ticket, x.wanted.Target, x.did.addr.Addr())
}

// switchTo sends head to the client and makes a tunnel of the connection. What
// either side sent ahead goes first.
func (x goExchange) switchTo(head []byte) bool {
	c := x.c
	x.did.tunnel = true
	of := c.Look()
	c.does(x.doing())
	c.srv.judgeNew(c.conn, of, x.gen)
	c.deregister() // a tunnel may be half-closed for long
	c.touch()
	ahead := x.unreadIn()
	x.out = append(append(x.out[:0], head...), ahead...)
	x.did.sent += int64(len(ahead))
	x.ir = x.iw
	c.sending.Store(true)
	_, err := c.write(x.out)
	c.sending.Store(false)
	if err != nil {
		x.did.class = answer.ClassClientGone
		return false
	}
	x.did.firstByte = time.Since(x.did.start)
	var first []byte
	x.check = x.newCheck()
	if early := c.buffered(); len(early) > 0 && x.check != nil {
		first = bytes.Clone(early)
		c.r = c.w
	} else if len(early) > 0 {
		if _, err := x.up.Blocking().Write(early); err != nil {
			x.did.class = answer.ClassTerminated
			return false
		}
		x.did.received += int64(len(early))
		c.r = c.w
	}
	x.keepHeads() // before the buffer that it is in goes
	c.releaseBuffer()
	x.releaseIn()
	if x.plain() {
		c.setUpstream(nil)
		x.handOver(first)
		return false
	}
	c.srv.Metrics.Tunnels.Inc()
	defer c.srv.Metrics.Tunnels.Dec()
	c.touch()
	x.tunnelEnded(relayTLS(c, x.up.Blocking()))
	c.setUpstream(nil)
	x.up = nil
	return false
}

// upgrade makes a tunnel of the connection because the server agreed to switch
// protocols (RFC 9110 section 7.8).
func (x goExchange) upgrade() bool {
	if x.req.Upgrade == nil || x.resp.Upgrade == nil {
		return x.refuse(errSwitch)
	}
	if x.body.done != nil {
		<-x.body.done // the request comes before what the new protocol says
	}
	if !x.body.stop(x) {
		return x.refuse(errClosedEarly)
	}
	x.keepHeads()
	if x.rest != nil {
		x.c.unread(x.rest)
		x.rest = nil
	}
	x.did.status = 101
	return x.switchTo(answer.AppendSwitched(nil, &x.resp, x.c.srv.Name))
}

// relayTLS is Relay for a protocol upgrade on an https target: the bytes are
// encrypted on one side, so they pass through user space.
func relayTLS(c goConn, up outbound.Blocking) tunnel.Result {
	client := c.tcp
	client.Share()
	up.TCP.Share()
	var res tunnel.Result
	done, down := make(chan error, 1), make(chan struct{})
	var failed atomic.Bool
	// The kernel tells a reset once: when the other direction was told, this one reads an end. So
	// when both halves of the client's connection are over, it matters how the other one ended.
	clientReset := func() bool {
		if _, all := client.PeerEnd(); all {
			select {
			case <-down:
			case <-time.After(time.Second):
				return true
			}
		}
		return failed.Load()
	}
	copyAll := func(dst interface {
		io.Writer
		CloseWrite() error
	}, src io.Reader, reset func() bool) (int64, error) {
		n, err := io.Copy(&touching{dst, c.touch}, src)
		if err == nil && reset() {
			err = tunnel.ErrReset
		}
		if err == nil {
			err = dst.CloseWrite() // which may be the only one to be told of a reset
		}
		if err != nil {
			failed.Store(true)
			if !errors.Is(err, os.ErrDeadlineExceeded) { // a part must not look like the whole
				client.ResetOnClose()
				up.TCP.ResetOnClose()
			}
			client.Close()
			up.Close()
		}
		return n, err
	}
	go func() {
		defer c.srv.panicked.Recover(func() {
			client.Close()
			up.Close()
			done <- errInternal
		})
		var err error
		res.Up, err = copyAll(serverEnd{up}, onlyReader{clientEnd{c}}, clientReset)
		done <- err
	}()
	var err error
	res.Down, err = copyAll(clientEnd{c}, onlyReader{up}, failed.Load)
	close(down)
	res.Err = errors.Join(err, <-done)
	client.Close()
	up.Close()
	return res
}

// touching tells of each write.
type touching struct {
	io.Writer
	touch func()
}

func (t *touching) Write(b []byte) (int, error) {
	t.touch()
	return t.Writer.Write(b)
}
