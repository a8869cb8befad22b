package policy

import "fmt"

// TunnelCheck is what is done about what clients send first through tunnels. The zero value
// looks at nothing.
type TunnelCheck uint8

const (
	CheckOff     TunnelCheck = iota // it is not looked at
	CheckLog                        // what should not be there is logged and counted, and goes on
	CheckEnforce                    // it ends the tunnel, before the server has had a byte
)

var checkNames = [...]string{"off", "log", "enforce"}

// String returns "off", "log" or "enforce".
func (c TunnelCheck) String() string { return checkNames[c] }

// ParseTunnelCheck takes off, log and enforce.
func ParseTunnelCheck(s string) (TunnelCheck, error) {
	for c, name := range checkNames {
		if s == name {
			return TunnelCheck(c), nil
		}
	}
	return CheckOff, fmt.Errorf("%q is none of off, log, enforce", s)
}
