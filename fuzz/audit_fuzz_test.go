package fuzz

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluiceproxy/sluice/acl/audit/audittest"
)

// addDraws seeds a target with what rapid draws lists and places from. That takes some 10 KiB a time,
// with less a case is skipped; so the corpus is made here, where files would be noise to read.
func addDraws(f *testing.F) {
	for seed := range byte(8) {
		draws := make([]byte, 64<<10)
		rand.NewChaCha8([32]byte{seed}).Read(draws)
		f.Add(draws)
	}
}

// What audit says of two lists is judged by brute force.
func FuzzCompare(f *testing.F) {
	addDraws(f)
	f.Fuzz(rapid.MakeFuzz(audittest.Compare))
}

// So is what it says of one.
func FuzzLint(f *testing.F) {
	addDraws(f)
	f.Fuzz(rapid.MakeFuzz(audittest.Lint))
}

// And what tunnels have to carry.
func FuzzProtocols(f *testing.F) {
	addDraws(f)
	f.Fuzz(rapid.MakeFuzz(audittest.Protocols))
}

// And what it says of the days on which rules expire.
func FuzzLintOverTime(f *testing.F) {
	addDraws(f)
	f.Fuzz(rapid.MakeFuzz(audittest.LintOverTime))
}
