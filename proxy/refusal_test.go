package proxy

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/sluiceproxy/sluice/proxy/outbound"
)

// Each way of having no connection has a class, and with it a status.
func TestEveryKindHasAClass(t *testing.T) {
	assert.Len(t, outboundClasses, outbound.Kinds)
	for kind, class := range outboundClasses {
		assert.NotEmpty(t, class, "kind %d", kind)
	}
}
