// Package squid holds the test that compares Sluice with what it replaces: the
// real squid (Debian's package), configured as the OpenShift egress router
// configures it. Both are asked the same questions over random lists of rules,
// and every difference must be one that the specification of the rule language
// lists. The package has no code of its own.
//
// A small model of the decision, [behaviour] by behaviour, says for each
// question which differences to expect: without any behaviour it must agree with
// Sluice, with all of them it must agree with squid, and the behaviours that
// matter to the question are the rows of the table that explain the difference.
// So a row excuses nothing but the exact answers that it predicts.
//
// SLUICE_SQUID_SEED changes the random lists, SLUICE_SQUID_LISTS their number.
// The tests need squid and root. With CI=true as root nothing is skipped.
package squid
