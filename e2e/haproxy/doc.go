// Package haproxy puts "sluice tcp" beside a real haproxy that is set up as the original
// script does it, before the same faults. It has no code of its own.
package haproxy
