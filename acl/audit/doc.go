// Package audit answers questions about lists of rules as a whole: what a change opens and closes
// ([Compare]), which rules never decide, could go, or open more than was meant ([Lint]), whether what a
// list asserts holds ([CheckAssertions]), and which rules came near a target ([Near]). It decides, and
// does not guess: over every name, every address and every port, with a concrete target for each thing it
// says, which [github.com/sluiceproxy/sluice/acl] decides as it says. It opens nothing, and no part of a
// request's way through the proxy uses it.
//
// # How
//
// A rule is about names or about addresses, and about ports. So a list sorts the names into classes, by the
// first rule on names that matches, and the addresses alike; a target is decided by the earlier of the
// two, and then by the guard. Two lists are compared by pairs of rules: one example of each class of names
// that the two together tell apart, and of addresses, are all that has to be looked at. Names are walked
// label by label, from the last one on, with an automaton for the patterns with `*`; addresses come from
// [acl.Kinds]. Pairs of classes that differ are found by searches in sorted lists, not by trying each with
// each.
//
// # Bounds
//
// The work is bounded by time and by the number of regions (see [Options]). A question that reaches a bound
// is answered with what was found and with what made it large; it is never said that lists are equivalent, or
// that an assertion holds, when that was not decided.
package audit
