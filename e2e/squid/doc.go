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
// A second test compares which texts of rules are accepted at all, by the script
// and squid on one side and by Sluice on the other.
//
// SLUICE_SQUID_SEED changes what is random; SLUICE_SQUID_LISTS and
// SLUICE_SQUID_TEXTS say how many lists to ask and how many texts to read.
// The tests need squid and root. With CI=true as root nothing is skipped.
package squid
