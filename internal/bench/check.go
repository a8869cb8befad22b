//go:build linux

package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"

	"github.com/sluiceproxy/sluice/internal/bench/load"
	"github.com/sluiceproxy/sluice/internal/bench/peers"
	"github.com/sluiceproxy/sluice/internal/bench/report"
)

// checkRow measures row 4 with a ClientHello in the message's place, that nobody looks at, and
// that is judged.
func (b *bench) checkRow(number int) ([]*report.Table, error) {
	hello, err := clientHello("name.bench.example")
	if err != nil {
		return nil, err
	}
	w := workOf("4")
	w.round = 3 // since a few per cent count here
	w.row, w.key, w.name = number, "15", "row 4 with a ClientHello, by --tunnel-check"
	w.job.First = hello
	variants := []variant{{name: direct, scale: 1}}
	for _, mode := range []string{"enforce", "log", "off"} {
		variants = append([]variant{{name: mode, peer: b.sluices[0], setup: peers.Setup{Check: mode}, scale: 1}}, variants...)
	}
	return b.runWorks([]work{w}, variants)
}

// clientHello is what a client of crypto/tls says first.
func clientHello(name string) ([]byte, error) {
	client, server := net.Pipe()
	defer server.Close()
	go func() {
		defer client.Close()
		_ = tls.Client(client, &tls.Config{ServerName: name}).Handshake() // which nobody answers
	}()
	b := make([]byte, 1<<14)
	n, err := server.Read(b)
	if b = b[:n]; err == nil && (n < load.MessageSize || !bytes.HasPrefix(b, []byte{22, 3}) || n != 5+int(b[3])<<8+int(b[4])) {
		err = errors.New("a ClientHello of crypto/tls did not come in one record")
	}
	return b, err
}
