//go:build linux

package proc

import (
	"os"
	"strings"
)

// pageLists is how much of a zone's memory a processor may keep to itself: one part in so many.
const pageLists = "vm.percpu_pagelist_high_fraction"

// ShortPageLists has the kernel keep short lists of free pages for each processor until restore
// is called, which may be called again, and reports whether that was possible; lists whose
// length somebody has chosen are left alone.
//
// Linux lets them grow to gigabytes where pages are allocated on one processor and given back on
// the other, as those of bulk through a proxy are. While one's list grows, the other takes pages
// that nobody has used for long: a virtual machine that returns free memory to its host pays a
// fault in the host for each, which is dearer than what is measured, and whether it happens
// depends on which proxy was measured before.
func ShortPageLists() (restore func(), short bool) {
	was, err := os.ReadFile(sysctlPath(pageLists))
	if err != nil {
		return func() {}, false
	}
	if strings.TrimSpace(string(was)) != "0" {
		return func() {}, true
	}
	if SetSysctl(pageLists, "1000") != nil {
		return func() {}, false
	}
	return func() { _ = SetSysctl(pageLists, "0") }, true
}
