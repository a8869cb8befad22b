package ca_test

import (
	"crypto/tls"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/proxy/ca"
)

// The same files are the same authority, as long as somebody has it; others are another.
func TestKept(t *testing.T) {
	var k ca.Kept
	make := func(cert, key []byte) *ca.Authority {
		pair, err := tls.X509KeyPair(cert, key)
		require.NoError(t, err)
		a, err := k.New(pair, cert, key)
		require.NoError(t, err)
		return a
	}
	cert, key, err := ca.Make("test", []string{"a.test"}, nil, time.Now().Add(time.Hour))
	require.NoError(t, err)
	a := make(cert, key)
	one, err := a.Certificate("a.test")
	require.NoError(t, err)
	runtime.GC()
	again, err := make(cert, key).Certificate("a.test")
	require.NoError(t, err)
	assert.Same(t, one, again)
	otherCert, otherKey, err := ca.Make("test", []string{"a.test"}, nil, time.Now().Add(time.Hour))
	require.NoError(t, err)
	assert.NotSame(t, a, make(otherCert, otherKey))
	runtime.KeepAlive(a)
}
